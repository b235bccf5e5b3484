//! `neftpipe cancel`.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use clap::Args;
use neftpipe_protocol::Failure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;

use super::{CliError, CliResult, Context, reference};
use crate::exit::Exit;
use crate::process::{Life, Process};
use crate::record::{self, RunRecord, RunState};

/// With `--now` a run that has not ended after this long is killed outright.
const PATIENCE: Duration = Duration::from_secs(10);

/// End a run: its stages finish their step and save their work, and the same command goes on from there.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The run, as `neftpipe runs` lists it.
    #[arg(value_name = "RUN")]
    run: String,
    /// End its stages at once, without saving.
    #[arg(long)]
    now: bool,
}

pub(super) fn run(context: &Context, args: &CancelArgs) -> CliResult {
    let store = context.store_here()?;
    let mut run = reference::run_named(&store, &args.run)?;
    let mut state = RunState::of(&store, &run)?;
    if state == RunState::Running {
        end(context, &run, args.now)?;
        run = record::load(&store.runs_dir(), &run.run)?;
        state = RunState::of(&store, &run)?;
    }
    if context.printer.is_json() {
        context.printer.json(&json!({ "version": 1, "run": run.run, "state": state }))?;
    } else {
        context.printer.line(format!("{}: {}", run.run, state.name()))?;
    }
    Ok(Exit::Success)
}

/// Asks the process of a run to stop, and waits until it has.
fn end(context: &Context, run: &RunRecord, now: bool) -> Result<(), CliError> {
    let Some(process) = &run.process else {
        return Err(CliError::usage(format!("run {} does not say which process carries it out", run.run)));
    };
    if process.life() == Life::Elsewhere {
        let Process { host, pid, .. } = process;
        return Err(Failure::environment(format!("run {} is carried out by process {pid} of {host}", run.run))
            .with_hint(format!("on {host}: `neftpipe cancel {}`; a job of Slurm ends with `scancel`", run.run))
            .into());
    }
    let Some(handle) = open(process)? else { return Ok(()) };
    send(&handle, Signal::TERM)?;
    if now {
        send(&handle, Signal::INT)?; // the second wish ends; another signal, since two equal ones may arrive as one
        if !wait(&handle, Some(PATIENCE))? {
            send(&handle, Signal::KILL)?;
        }
    } else {
        context.printer.note(format!("run {} was asked to stop; its stages save their work", run.run));
    }
    wait(&handle, None).map(drop)
}

/// A handle that means this process and never one that gets its id later. None where it has ended.
fn open(process: &Process) -> Result<Option<OwnedFd>, CliError> {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| CliError::usage(format!("{} is no process id", process.pid)))?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => Ok((process.life() == Life::Alive).then_some(handle)),
        Err(Errno::SRCH) => Ok(None),
        Err(errno) => Err(refused(errno)),
    }
}

fn send(handle: &OwnedFd, signal: Signal) -> Result<(), CliError> {
    match pidfd_send_signal(handle, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(refused(errno)),
    }
}

fn refused(errno: Errno) -> CliError {
    Failure::environment(format!("the process of the run cannot be reached: {}", std::io::Error::from(errno))).into()
}

/// Waits until the process has ended, at most so long. Says whether it has.
fn wait(handle: &OwnedFd, at_most: Option<Duration>) -> Result<bool, CliError> {
    let began = Instant::now();
    loop {
        let left = at_most.map(|limit| limit.saturating_sub(began.elapsed()));
        let timeout = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        match poll(&mut [PollFd::new(handle, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(refused(errno)),
        }
    }
}
