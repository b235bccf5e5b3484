//! Downloads pinned wheels through the machine's own pip, as that is configured: its index, proxy and certificates.
//! Must not know what the wheels are for.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use crate::error::{Error, PipProblem};
use crate::wheels::{Bundle, PYTHON_VERSION};

/// Leaves every wheel of `bundle` in `folder`. Wheels that are there already are checked and kept.
pub fn download(bundle: &Bundle, folder: &Path) -> Result<(), Error> {
    let requirements = folder.join("requirements.txt");
    std::fs::write(&requirements, bundle.requirements()).map_err(Error::io("write", &requirements))?;

    let mut pip = find_pip()?;
    pip.args(["download", "--require-hashes", "--no-deps", "--no-cache-dir", "--only-binary=:all:"]).args([
        "--implementation",
        "cp",
        "--python-version",
        PYTHON_VERSION,
    ]);
    for platform in platforms(bundle) {
        pip.args(["--platform", platform]);
    }
    pip.arg("--dest").arg(folder).arg("--requirement").arg(&requirements);

    let (status, complaints) = run_echoing_complaints(pip)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Pip(recognise(&complaints, status, bundle.download_mb + bundle.unpacked_mb)))
}

fn find_pip() -> Result<Command, Error> {
    let candidates: [(&str, &[&str]); 3] = [("python3", &["-m", "pip"]), ("pip3", &[]), ("pip", &[])];
    for (program, arguments) in candidates {
        let mut probe = Command::new(program);
        probe.args(arguments).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if probe.status().is_ok_and(|status| status.success()) {
            let mut pip = Command::new(program);
            pip.args(arguments);
            return Ok(pip);
        }
    }
    Err(Error::NoPip)
}

/// Every platform tag of every wheel once: pip widens none of them by itself, and the hashes choose the file.
fn platforms(bundle: &Bundle) -> std::collections::BTreeSet<&'static str> {
    bundle.wheels().flat_map(|wheel| wheel.platforms()).collect()
}

/// Shows all that pip prints on stderr, since stdout belongs to what the user ran, and keeps its complaints.
fn run_echoing_complaints(mut pip: Command) -> Result<(ExitStatus, String), Error> {
    let start = |source| Error::Start { program: "pip".to_owned(), source };
    let mut child = pip.stdin(Stdio::null()).stdout(std::io::stderr()).stderr(Stdio::piped()).spawn().map_err(start)?;
    let mut complaints = String::new();
    let stderr = child.stderr.take().expect("stderr is piped");
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        // A terminal that went away is no reason to stop the download.
        let _ = writeln!(std::io::stderr(), "{line}");
        complaints.push_str(&line);
        complaints.push('\n');
    }
    Ok((child.wait().map_err(start)?, complaints))
}

fn recognise(complaints: &str, status: ExitStatus, needed_mb: u32) -> PipProblem {
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| complaints.contains(phrase));
    if says(&["DO NOT MATCH THE HASHES"]) {
        PipProblem::OtherHash
    } else if says(&["No space left on device", "Disk quota exceeded"]) {
        PipProblem::DiskFull { needed_mb }
    } else if says(&[
        "Failed to establish a new connection",
        "ConnectionError",
        "Read timed out",
        "ProxyError",
        "SSLError",
    ]) {
        PipProblem::Unreachable
    } else if says(&["No matching distribution found"]) {
        PipProblem::NotThere
    } else {
        PipProblem::Other(status)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn pips_words_are_understood() {
        let failed = ExitStatus::from_raw(256);
        let of = |words: &str| recognise(words, failed, 1024);
        assert_eq!(
            of("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."),
            PipProblem::OtherHash
        );
        assert_eq!(of("OSError: [Errno 28] No space left on device"), PipProblem::DiskFull { needed_mb: 1024 });
        // Without a network pip ends with both, and the first is the cause.
        assert_eq!(
            of(
                "WARNING: Retrying: Failed to establish a new connection\nERROR: No matching distribution found for torch"
            ),
            PipProblem::Unreachable
        );
        assert_eq!(of("ERROR: No matching distribution found for torch==2.13.0"), PipProblem::NotThere);
        assert_eq!(of("something else"), PipProblem::Other(failed));
    }
}
