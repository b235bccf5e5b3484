//! `run --detach`: the same command once more, in a session of its own that no terminal can end.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;
use serde_json::json;

use super::{CliResult, Context};
use crate::exit::Exit;
use crate::record;
use crate::store::Store;

/// What the detached process prints, in the folder of its run.
const OUTPUT: &str = "output.log";
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Starts this command again, detached, and tells where it can be followed once its run has begun.
pub(super) fn start(context: &Context, store: &Store) -> CliResult {
    let runs = store.runs_dir();
    let run = record::new_run(&runs)?;
    let output = runs.join(&run).join(OUTPUT);
    let mut child = spawn(&run, &output)?;
    while !record::is_begun(&runs, &run) {
        let ended = child.try_wait().map_err(|error| cannot_start(&error))?;
        if let Some(status) = ended.filter(|_| !record::is_begun(&runs, &run)) {
            let printed = fs::read(&output).unwrap_or_default();
            let _closed = std::io::stderr().write_all(&printed);
            return Err(
                Failure::environment(format!("the detached process ended before its run began: {status}")).into()
            );
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    if context.printer.is_json() {
        context.printer.json(&json!({ "version": 1, "run": run }))?;
    } else {
        context.printer.line(&run)?;
        context.printer.note(format!("follow it with: neftpipe logs {run} --follow"));
    }
    Ok(Exit::Success)
}

fn spawn(run: &str, output: &Path) -> Result<Child, Failure> {
    let failure = |error: std::io::Error| io_failure("write", output, &error);
    let printed = File::create(output).map_err(failure)?;
    let program = std::env::current_exe().map_err(|error| cannot_start(&error))?;
    let mut command = Command::new(program);
    command
        .args(std::env::args_os().skip(1).map(|argument| detached(argument, run)))
        .stdin(Stdio::null())
        .stderr(printed.try_clone().map_err(failure)?)
        .stdout(printed);
    // SAFETY: between fork and exec the closure makes one system call and touches no lock and no heap.
    unsafe { command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?)) };
    command.spawn().map_err(|error| cannot_start(&error))
}

fn detached(argument: OsString, run: &str) -> OsString {
    if argument == OsStr::new("--detach") { format!("--detached-as={run}").into() } else { argument }
}

fn cannot_start(error: &std::io::Error) -> Failure {
    Failure::environment(format!("the detached process cannot be started: {error}"))
}
