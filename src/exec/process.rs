//! One process group from its start to the end of its last process.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::attempt::{STDERR_FILE, STDOUT_FILE};
use super::stop::{Level, Stop};
use super::watchdog::Watchdog;

/// How often the log is read and a wish to stop is noticed.
const TICK: Duration = Duration::from_millis(50);
/// After its time is over a program has this long to save its work.
const GRACE: Duration = Duration::from_secs(10);

/// How a process ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// Its time was over.
    TimedOut,
    /// It was asked to stop, and did so or was ended.
    Stopped(ExitStatus),
}

/// Starts a [gated](super::watchdog::gated) program in a process group of its own, its output going to files in `logs`, and waits until it has ended.
/// `tick` is called several times a second, and once after the end. What is left of the group is then killed, so that
/// nobody writes any more to what the program left.
///
/// # Errors
/// Where the program cannot be started or waited for.
pub fn run(
    mut command: Command,
    logs: &Path,
    watchdog: &Watchdog,
    timeout: Option<Duration>,
    stop: &Stop,
    tick: &mut dyn FnMut(),
) -> io::Result<Ended> {
    command
        .stdout(File::options().create(true).append(true).open(logs.join(STDOUT_FILE))?)
        .stderr(File::options().create(true).append(true).open(logs.join(STDERR_FILE))?);
    let leader = watchdog.start_program(&mut command)?;
    let mut group = Group { leader, watchdog, reaped: false };
    let asked = group.wait(timeout, stop, tick)?;
    let status = group.end()?;
    tick();
    Ok(match asked {
        None => Ended::Exited(status),
        Some(Why::Timeout) => Ended::TimedOut,
        Some(Why::Stop) => Ended::Stopped(status),
    })
}

/// Why a group was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Timeout,
    Stop,
}

struct Group<'a> {
    leader: Child,
    watchdog: &'a Watchdog,
    reaped: bool,
}

impl Group<'_> {
    /// Waits until the leader has ended, which stays unreaped, so that its id cannot be given to another.
    fn wait(&self, timeout: Option<Duration>, stop: &Stop, tick: &mut dyn FnMut()) -> io::Result<Option<Why>> {
        let leader = pidfd_open(self.id(), PidfdFlags::empty())?;
        let started = Instant::now();
        let mut asked: Option<(Why, Instant)> = None;
        let mut killed = false;
        while !is_readable(&leader)? {
            tick();
            let overdue = timeout.is_some_and(|timeout| started.elapsed() >= timeout);
            let why = match stop.level() {
                Level::Run if overdue => Some(Why::Timeout),
                Level::Run => None,
                Level::Finish | Level::Kill => Some(Why::Stop),
            };
            if let (None, Some(why)) = (asked, why) {
                self.signal(Signal::TERM);
                asked = Some((why, Instant::now()));
            }
            let out_of_grace = asked.is_some_and(|(why, since)| why == Why::Timeout && since.elapsed() >= GRACE);
            if !killed && (out_of_grace || stop.level() == Level::Kill) {
                self.signal(Signal::KILL);
                killed = true;
            }
        }
        Ok(asked.map(|(why, _)| why))
    }

    /// Kills what is left of the group and takes the leader's status.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        let status = self.leader.wait();
        self.reaped = true;
        self.watchdog.dismiss(self.leader.id());
        status
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process_group(self.id(), signal) {
            tracing::debug!("process group {}: {error}", self.leader.id());
        }
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.leader)
    }
}

/// A group is not left to itself where waiting for it failed.
impl Drop for Group<'_> {
    fn drop(&mut self) {
        if !self.reaped
            && let Err(error) = self.end()
        {
            tracing::debug!("process group {}: {error}", self.leader.id());
        }
    }
}

fn is_readable(fd: &impl std::os::fd::AsFd) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as i64 };
    match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
