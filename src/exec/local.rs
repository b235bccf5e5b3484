//! Attempts in child processes of this one.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use neftpipe_protocol::Failure;
use neftpipe_protocol::event::Event;
use neftpipe_protocol::params::CommandParams;
use neftpipe_protocol::request::{EVENTS_FILE, REQUEST_FILE, RESULT_FILE, StageResult, Success};
use neftpipe_protocol::worker::{io_failure, write_json};

use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGUSR1};

use super::attempt::{STDERR_FILE, STDOUT_FILE};
use super::command;
use super::mask;
use super::process::{self, Ended};
use super::tail::Tail;
use super::watchdog::{Watchdog, gated};
use super::{CommandTask, Executor, Outcome, Stop, Task, Workers, with_last_lines};
use crate::env;

/// Where programs put temporary files, in the attempt directory.
const TMP_DIR: &str = "tmp";
/// A command that is too long to be handed over as an argument.
const SCRIPT_FILE: &str = "script.sh";
/// Linux takes single arguments below 128 KiB.
const LONGEST_ARGUMENT_BYTES: usize = 100_000;

/// How often the threads of a worker look for more work before they sleep. Training SmolLM2 in bf16 on a quiet machine: 481
/// tokens/s where they sleep at once, 517 to 550 with this, 545 to 578 with 30,000; beside a build 240 with 0 and with
/// this, and 125 with 30,000, at twice the processor time.
const SPIN_COUNT: &str = "1000";

/// A signal to all processes of a job reaches us within this time after it ended a program of ours.
const HEARD_LATER: Duration = Duration::from_millis(500);

/// Carries out attempts on this machine.
#[derive(Debug)]
pub struct Local {
    workers: Workers,
    folder: PathBuf,
    watchdog: OnceLock<Result<Watchdog, String>>,
}

impl Local {
    /// With these workers, for attempts that are all made below a folder.
    pub fn new(workers: Workers, folder: PathBuf) -> Self {
        Self { workers, folder, watchdog: OnceLock::new() }
    }

    /// The program of a task, ready to be started.
    fn program(&self, task: &Task) -> Result<Command, Failure> {
        let tmp = task.request.attempt.join(TMP_DIR);
        fs::create_dir_all(&tmp).map_err(|error| io_failure("create", &tmp, &error))?;
        match &task.command {
            Some(command) => shell(task, command),
            None => self.worker(task),
        }
    }

    fn run(&self, task: &Task, observe: &mut dyn FnMut(Event), stop: &Stop) -> Result<Ended, Failure> {
        let program = self.program(task)?;
        let attempt = &task.request.attempt;
        let mut tail = Tail::open(&attempt.join(EVENTS_FILE));
        process::run(program, attempt, self.watchdog()?, task.timeout, stop, &mut || tail.read(observe))
            .map_err(|error| Failure::environment(format!("{} cannot be started: {error}", task.request.stage)))
    }

    fn worker(&self, task: &Task) -> Result<Command, Failure> {
        let request = &task.request;
        let path = request.attempt.join(REQUEST_FILE);
        write_json(&path, request)?;
        let events = request.attempt.join(EVENTS_FILE);
        File::create(&events).map_err(|error| io_failure("write", &events, &error))?;
        let mut program = gated(self.workers.program(request.kind)?);
        program.args(["exec", "--request"]).arg(path).current_dir(&request.attempt);
        program.env("TMPDIR", request.attempt.join(TMP_DIR)).env("OMP_NUM_THREADS", request.threads.to_string());
        program.env("OMP_WAIT_POLICY", "passive");
        program.env("GOMP_SPINCOUNT", env::spin_count().unwrap_or_else(|| SPIN_COUNT.into()));
        show_gpus(task, &mut program);
        Ok(program)
    }

    /// Exactly one: a second would end the programs of the first when it goes.
    fn watchdog(&self) -> Result<&Watchdog, Failure> {
        let started = self.watchdog.get_or_init(|| Watchdog::start(&self.folder).map_err(|error| error.to_string()));
        started.as_ref().map_err(|error| Failure::environment(format!("/bin/sh cannot be started: {error}")))
    }
}

impl Executor for Local {
    fn execute(&self, task: &Task, observe: &mut dyn FnMut(Event), stop: &Stop) -> Outcome {
        match self.run(task, observe, stop) {
            Ok(ended) => {
                of_program(task, ended, stop).unwrap_or_else(|failure| Outcome::Finished(StageResult::Failed(failure)))
            }
            Err(failure) => Outcome::NotStarted(failure),
        }
    }

    fn torch_worker(&self) -> Option<PathBuf> {
        self.workers.torch().ok()
    }
}

/// A command sees nothing of our environment but what it cannot do without and what it names.
fn shell(task: &Task, command: &CommandTask) -> Result<Command, Failure> {
    let mut program = gated("/bin/sh");
    if command.script.len() < LONGEST_ARGUMENT_BYTES {
        program.arg("-c").arg(&command.script);
    } else {
        let path = task.request.attempt.join(SCRIPT_FILE);
        fs::write(&path, &command.script).map_err(|error| io_failure("write", &path, &error))?;
        program.arg(&path);
    }
    program.current_dir(&command.directory).env_clear();
    for name in ["PATH", "HOME"] {
        program.envs(env::named(name).map(|value| (name, value)));
    }
    program.env("LANG", "C.UTF-8").env("TMPDIR", task.request.attempt.join(TMP_DIR));
    program.env("OMP_NUM_THREADS", task.request.threads.to_string());
    program.envs(command.variables.iter().map(|(name, value)| (name, value)));
    show_gpus(task, &mut program);
    Ok(program)
}

/// A log that cannot be freed of secrets is not kept: better no log than one that tells.
fn mask_logs(attempt: &Path, command: &CommandTask) -> Result<(), Failure> {
    let needles = mask::needles(command.secrets.iter().map(|secret| secret.as_encoded_bytes()));
    for name in [STDOUT_FILE, STDERR_FILE] {
        let path = attempt.join(name);
        if let Err(error) = mask::mask_log(&path, &needles) {
            fs::remove_file(&path).map_err(|error| io_failure("remove", &path, &error))?;
            tracing::warn!("{}: secrets in it could not be masked, so it is not kept: {error}", path.display());
        }
    }
    Ok(())
}

fn show_gpus(task: &Task, program: &mut Command) {
    if let Some(gpus) = &task.gpus {
        program.env("CUDA_VISIBLE_DEVICES", gpus.join(","));
    }
}

fn of_program(task: &Task, ended: Ended, stop: &Stop) -> Result<Outcome, Failure> {
    let ended = match ended {
        Ended::Exited(status) if was_asked(task, status)? && stop.comes_within(HEARD_LATER) => Ended::Stopped(status),
        other => other,
    };
    match &task.command {
        Some(command) => {
            mask_logs(&task.request.attempt, command)?;
            of_command(task, ended)
        }
        None => of_worker(task, ended),
    }
}

/// Whether a program ended as one does that was asked to, though not by us. A cluster asks every process of a job at the
/// same time, and the program may be faster than we are.
fn was_asked(task: &Task, status: ExitStatus) -> Result<bool, Failure> {
    const ASKING: [i32; 4] = [SIGHUP, SIGINT, SIGUSR1, SIGTERM];
    const OF_SHELLS: i32 = 128;
    let signal = status.signal().or_else(|| status.code().map(|code| code - OF_SHELLS));
    let by_signal = signal.is_some_and(|signal| ASKING.contains(&signal));
    Ok(by_signal || (task.command.is_none() && matches!(read_result(task)?, Some(StageResult::Interrupted))))
}

/// The end of a worker: its exit status and its result must agree.
fn of_worker(task: &Task, ended: Ended) -> Result<Outcome, Failure> {
    let result = read_result(task)?;
    Ok(match (ended, result) {
        (Ended::Exited(status) | Ended::Stopped(status), Some(result @ StageResult::Succeeded(_)))
            if status.success() =>
        {
            Outcome::Finished(result)
        }
        (Ended::Exited(status), Some(result @ StageResult::Failed(_))) if !status.success() => {
            Outcome::Finished(result)
        }
        (Ended::Stopped(_), Some(result @ StageResult::Interrupted)) => Outcome::Finished(result),
        (Ended::Stopped(_), _) => Outcome::Cancelled,
        (Ended::TimedOut, _) => Outcome::TimedOut(task.timeout.unwrap_or_default()),
        (Ended::Exited(_), Some(StageResult::Interrupted)) => {
            Outcome::Died { status: "somebody else asked it to stop".to_owned(), killed: true }
        }
        (Ended::Exited(status), _) => died(status),
    })
}

fn read_result(task: &Task) -> Result<Option<StageResult>, Failure> {
    let path = task.request.attempt.join(RESULT_FILE);
    match fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_failure("read", &path, &error)),
    }
}

/// The end of a command: its exit status says whether it succeeded, and its outputs must be there.
fn of_command(task: &Task, ended: Ended) -> Result<Outcome, Failure> {
    let status = match ended {
        Ended::TimedOut => return Ok(Outcome::TimedOut(task.timeout.unwrap_or_default())),
        Ended::Stopped(status) if !status.success() => return Ok(Outcome::Cancelled),
        Ended::Stopped(status) | Ended::Exited(status) => status,
    };
    if let Some(code) = status.code().filter(|&code| code != 0) {
        let message = format!("the command ended with exit status {code}");
        return Ok(Outcome::Finished(StageResult::Failed(Failure::data(with_last_lines(
            message,
            &task.request.attempt,
        )))));
    }
    if !status.success() {
        return Ok(died(status));
    }
    let params: CommandParams = serde_json::from_value(task.request.params.clone())
        .map_err(|error| Failure::internal(format!("{}: parameters: {error}", task.request.stage)))?;
    let outputs = command::outputs(&params);
    for (name, _) in &outputs {
        let path = command::output_path(&params, &task.request.out, name);
        let below = path.strip_prefix(&task.request.out).ok().filter(|below| !below.as_os_str().is_empty());
        let shown = below.unwrap_or(Path::new(".")).display();
        let failure = if !path.exists() {
            let message = format!("the command left no {shown} in {{out}} for its output `{name}`");
            Failure::data(with_last_lines(message, &task.request.attempt))
        } else if !is_reached_without_links(&task.request.out, &path) {
            let message = format!("a symbolic link leads to {shown}, the output `{name}`: it cannot be stored");
            Failure::data(message).with_hint("leave the file itself in {out}")
        } else {
            continue;
        };
        return Ok(Outcome::Finished(StageResult::Failed(failure)));
    }
    let success = Success { outputs: outputs.into_iter().collect(), ..Success::default() };
    Ok(Outcome::Finished(StageResult::Succeeded(Box::new(success))))
}

/// Whether neither a folder nor anything on the way to a path below it is a link: what is stored is moved, and behind a link
/// lies something that is not the command's own.
fn is_reached_without_links(folder: &Path, path: &Path) -> bool {
    let is_no_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| !found.is_symlink());
    let Ok(below) = path.strip_prefix(folder) else { return false };
    let mut here = folder.to_owned();
    is_no_link(&here)
        && below.components().all(|part| match part {
            Component::CurDir => true,
            Component::Normal(name) => {
                here.push(name);
                is_no_link(&here)
            }
            _ => false,
        })
}

fn died(status: ExitStatus) -> Outcome {
    Outcome::Died { status: status.to_string(), killed: status.signal() == Some(SIGKILL) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_output_is_reached_without_links_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        fs::create_dir_all(out.join("real/deep")).unwrap();
        fs::write(out.join("real/deep/t.csv"), "1").unwrap();
        symlink(out.join("real"), out.join("link")).unwrap();
        symlink(out.join("real/deep/t.csv"), out.join("t.csv")).unwrap();
        symlink(&out, dir.path().join("other")).unwrap();
        let is_reached = |path: &str| is_reached_without_links(&out, &out.join(path));
        assert!(is_reached("") && is_reached("real/./deep/t.csv"));
        for path in ["link/deep/t.csv", "t.csv", "link/../real/deep/t.csv", "../other/real", "none"] {
            assert!(!is_reached(path), "{path}");
        }
        let other = dir.path().join("other");
        assert!(!is_reached_without_links(&other, &other.join("real")));
    }
}
