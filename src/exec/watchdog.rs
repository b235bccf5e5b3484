//! No process is left behind, even when this one is killed outright.
//!
//! A small shell process reads from a pipe which process groups live. When the pipe closes, because this process ended in
//! whatever way, it kills those that are left, and where there is `/proc` those too that left their group (daemons): each
//! program has its temporary folder in that of the run, and its children inherit the variable that says so. It has a
//! group of its own, so that killing ours does not reach it.
//!
//! Programs are started without a copy of this process (`fork` would take longer the larger the pipeline is), so they
//! cannot say themselves that they live before they run: a gate holds them until this process has said it.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

/// `+ GROUP` and `- GROUP`, a line each. Its argument stands in the environment of every program of the run. Who forks while
/// it is being killed is found by looking again; who cannot be killed is given up.
const SCRIPT: &str = r#"trap '' HUP INT TERM USR1
live=' '
while read -r sign group; do
  case $sign in
    +) live="$live$group " ;;
    -) live="${live%% $group *} ${live#* $group }" ;;
  esac
done
for group in $live; do kill -s KILL -- "-$group"; done
for look in 1 2 3 4 5 6 7 8 9 10; do
  left=$(grep -lszF -e "$1" /proc/[0-9]*/environ) # its status tells of those that may not be read, too
  [ -n "$left" ] || break
  for process in $left; do process=${process#/proc/}; kill -s KILL "${process%/environ}"; done
done
exit 0"#;

/// Goes on with a program when a line comes, and ends when none does.
const GATE: &str = r#"read -r _ && exec "$@" </dev/null"#;

/// The process that watches over this one.
#[derive(Debug)]
pub struct Watchdog {
    child: Child,
    pipe: Mutex<Option<ChildStdin>>,
    folder: PathBuf,
}

impl Watchdog {
    /// Starts it, for programs whose temporary folders are below this one.
    ///
    /// # Errors
    /// Where `/bin/sh` cannot be started.
    pub fn start(folder: &Path) -> io::Result<Self> {
        let mut child = script(folder).stdin(Stdio::piped()).spawn()?;
        let pipe = Mutex::new(child.stdin.take());
        Ok(Self { child, pipe, folder: folder.to_owned() })
    }

    /// Starts a command made by [`gated`] as the leader of a group, and lets it go on once the group is known here.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start_program(&self, command: &mut Command) -> io::Result<Child> {
        let mut child = command.process_group(0).stdin(Stdio::piped()).spawn()?;
        self.tell('+', child.id())?; // where this fails the gate closes, and the program is never run
        if let Some(mut gate) = child.stdin.take()
            && let Err(error) = gate.write_all(b"\n")
        {
            tracing::debug!("gate: {error}"); // it was killed meanwhile
        }
        Ok(child)
    }

    /// The group has ended.
    pub fn dismiss(&self, group: u32) {
        if let Err(error) = self.tell('-', group) {
            tracing::debug!("watchdog: {error}");
        }
    }

    fn tell(&self, sign: char, group: u32) -> io::Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pipe = pipe.as_mut().expect("the pipe is open until the watchdog is dropped");
        pipe.write_all(format!("{sign} {group}\n").as_bytes())
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.pipe.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match self.child.wait() {
            Ok(status) if status.success() => {}
            Ok(_) => end_daemons(&self.folder), // it was killed
            Err(error) => tracing::debug!("watchdog: {error}"),
        }
    }
}

/// Kills what is left of programs whose temporary folders are below this one, where nobody watches over them any more.
pub fn end_daemons(folder: &Path) {
    if let Err(error) = script(folder).stdin(Stdio::null()).status() {
        tracing::debug!("watchdog: {error}");
    }
}

fn script(folder: &Path) -> Command {
    let mut marker = OsString::from("TMPDIR=");
    marker.push(folder.join("")); // with the slash at the end: no other folder's name begins so
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, "sh"]).arg(marker).current_dir("/").process_group(0);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A program that waits, before it is run, until the watchdog knows of it: should we be killed before that, it never runs.
/// Its arguments, environment and folder may be set, but not its stdin.
pub fn gated(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", GATE, "sh"]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_live_are_killed_when_the_pipe_closes_and_others_are_not() {
        let watchdog = Watchdog::start(Path::new("/nowhere")).unwrap();
        let sleeper = || watchdog.start_program(gated("/bin/sh").args(["-c", "sleep 60 & sleep 60"])).unwrap();
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

    #[test]
    #[cfg(target_os = "linux")]
    fn a_daemon_is_killed_when_the_pipe_closes_by_the_folder_in_its_environment() {
        daemons_end(false);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_daemon_is_killed_though_the_watchdog_was() {
        daemons_end(true);
    }

    fn daemons_end(is_killed: bool) {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let watchdog = Watchdog::start(&run).unwrap();
        let daemon_of = |run: &str| {
            let mut program = gated("/bin/sh");
            program.args(["-c", "setsid sleep 60 >/dev/null & echo $!"]).stdout(Stdio::piped());
            program.env("TMPDIR", folder.path().join(run).join("stage/tmp"));
            let started = watchdog.start_program(&mut program).unwrap();
            watchdog.dismiss(started.id());
            let told = started.wait_with_output().unwrap().stdout;
            rustix::process::Pid::from_raw(String::from_utf8(told).unwrap().trim().parse().unwrap()).unwrap()
        };
        let (ours, other) = (daemon_of("run"), daemon_of("run-2"));
        let handle = |pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let (ours, other) = (handle(ours), handle(other));
        if is_killed {
            let group = rustix::process::Pid::from_child(&watchdog.child);
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
        }
        drop(watchdog);
        let has_ended = |process| {
            let soon = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
            let mut polled = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut polled, Some(&soon)).unwrap() > 0
        };
        assert!(has_ended(&ours));
        rustix::process::pidfd_send_signal(&other, rustix::process::Signal::KILL).unwrap(); // it lives: else an error
    }
}
