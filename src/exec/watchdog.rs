//! No process is left behind, even when this one is killed outright.
//!
//! A small shell process reads from a pipe which process groups live. When the pipe closes, because this process ended in
//! whatever way, it kills those that are left. It has a group of its own, so that killing ours does not reach it.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

/// `+ GROUP` and `- GROUP`, a line each.
const SCRIPT: &str = r#"trap '' HUP INT TERM USR1
live=' '
while read -r sign group; do
  case $sign in
    +) live="$live$group " ;;
    -) live="${live%% $group *} ${live#* $group }" ;;
  esac
done
for group in $live; do kill -s KILL -- "-$group"; done"#;

/// The process that watches over this one.
#[derive(Debug)]
pub struct Watchdog {
    child: Child,
    pipe: Mutex<Option<ChildStdin>>,
}

impl Watchdog {
    /// Starts it.
    ///
    /// # Errors
    /// Where `/bin/sh` cannot be started.
    pub fn start() -> io::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = Mutex::new(child.stdin.take());
        Ok(Self { child, pipe })
    }

    /// Arranges that the group that this command will lead is known from its first moment on.
    pub fn enlist(&self, command: &mut Command) -> io::Result<()> {
        let pipe = self.with_pipe(|pipe| pipe.as_fd().try_clone_to_owned())?;
        command.process_group(0);
        let announce = move || announce(pipe.as_fd());
        // SAFETY: between fork and exec the closure makes three system calls and touches no lock and no heap.
        unsafe { command.pre_exec(announce) };
        Ok(())
    }

    /// The group has ended.
    pub fn dismiss(&self, group: u32) {
        if let Err(error) = self.with_pipe(|pipe| pipe.write_all(format!("- {group}\n").as_bytes())) {
            tracing::debug!("watchdog: {error}");
        }
    }

    fn with_pipe<T>(&self, act: impl FnOnce(&mut ChildStdin) -> io::Result<T>) -> io::Result<T> {
        let mut pipe = self.pipe.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        act(pipe.as_mut().expect("the pipe is open until the watchdog is dropped"))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.pipe.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Err(error) = self.child.wait() {
            tracing::debug!("watchdog: {error}");
        }
    }
}

/// In the child, before it becomes its program: die with the parent, and say which group is ours.
fn announce(pipe: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::process::{Signal, getpid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut line = [0; 16];
    let length = announcement(getpid().as_raw_nonzero().get().unsigned_abs(), &mut line);
    rustix::io::write(pipe, &line[..length])?;
    Ok(())
}

/// `+ GROUP\n` without touching the heap. Returns its length.
fn announcement(mut group: u32, line: &mut [u8; 16]) -> usize {
    let mut digits = [0; 10];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (group % 10) as u8;
        group /= 10;
        if group == 0 {
            break;
        }
    }
    let digits = &digits[start..];
    line[..2].copy_from_slice(b"+ ");
    line[2..2 + digits.len()].copy_from_slice(digits);
    line[2 + digits.len()] = b'\n';
    digits.len() + 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_a_line() {
        for (group, text) in [(1, "+ 1\n"), (40, "+ 40\n"), (u32::MAX, "+ 4294967295\n")] {
            let mut line = [0; 16];
            let length = announcement(group, &mut line);
            assert_eq!(&line[..length], text.as_bytes());
        }
    }

    #[test]
    fn groups_that_live_are_killed_when_the_pipe_closes_and_others_are_not() {
        let watchdog = Watchdog::start().unwrap();
        let sleeper = || {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "sleep 60 & sleep 60"]);
            watchdog.enlist(&mut command).unwrap();
            command.spawn().unwrap()
        };
        let (mut first, mut second, mut third) = (sleeper(), sleeper(), sleeper());
        watchdog.dismiss(second.id());
        drop(watchdog);
        assert!(!first.wait().unwrap().success());
        assert!(!third.wait().unwrap().success());
        assert!(second.try_wait().unwrap().is_none());
        let group = rustix::process::Pid::from_child(&second);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
        second.wait().unwrap();
    }
}
