//! Whether this machine has an NVIDIA driver, and which. It starts no program of the vendor's and touches no GPU.

use std::path::Path;
use std::process::{Command, Stdio};

/// An NVIDIA driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// As people know it ("580.65.06"); not every system tells.
    pub release: Option<String>,
}

impl Driver {
    pub fn of_this_machine() -> Option<Self> {
        match std::fs::read_to_string("/proc/driver/nvidia/version") {
            Ok(text) => Some(Self { release: parse_release(&text) }),
            Err(_) => driver_library_present().then_some(Self { release: None }),
        }
    }

    /// The release if it is known to be older than the major release `oldest`.
    pub fn older_than(&self, oldest: u32) -> Option<&str> {
        let release = self.release.as_deref()?;
        let major: u32 = release.split('.').next()?.parse().ok()?;
        (major < oldest).then_some(release)
    }
}

/// Under WSL and in some containers there is the library alone.
fn driver_library_present() -> bool {
    if Path::new("/usr/lib/wsl/lib/libcuda.so.1").exists() {
        return true;
    }
    ["ldconfig", "/sbin/ldconfig"].iter().any(|ldconfig| {
        let known = Command::new(ldconfig).arg("-p").stdin(Stdio::null()).stderr(Stdio::null()).output();
        known.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("libcuda.so.1"))
    })
}

/// The first word that looks like a release on the line that names the kernel module.
fn parse_release(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM version"))?;
    line.split_whitespace()
        .find(|word| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.'))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_release_of_both_kernel_modules() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  gcc 11.4.0\n";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n";
        assert_eq!(parse_release(closed).as_deref(), Some("535.104.05"));
        assert_eq!(parse_release(open).as_deref(), Some("580.65.06"));
        assert_eq!(parse_release(""), None);
    }

    #[test]
    fn only_a_known_release_is_too_old() {
        let driver = |release: Option<&str>| Driver { release: release.map(str::to_owned) };
        assert_eq!(driver(Some("535.104.05")).older_than(580), Some("535.104.05"));
        assert_eq!(driver(Some("580.65.06")).older_than(580), None);
        assert_eq!(driver(Some("610.1")).older_than(580), None);
        assert_eq!(driver(None).older_than(580), None);
    }
}
