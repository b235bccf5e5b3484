//! Has pairs of answers scored by the worker with tensors, as [`neftpipe_protocol::scoring`] lays down: a nested request, a
//! process, its events passed on, its scores taken as they come, and an end when asked.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use indexmap::IndexMap;
use neftpipe_protocol::event::{Event, EventBody};
use neftpipe_protocol::request::{EVENTS_FILE, REQUEST_FILE, RESULT_FILE, Request, StageResult, Success};
use neftpipe_protocol::scoring::{PAIRS_FILE, PairRow, SCORES_FILE, SCORES_OUTPUT, ScoreRow};
use neftpipe_protocol::worker::{Job, io_failure, write_json};
use neftpipe_protocol::{Failure, Kind};
use rustix::process::{Pid, Signal, kill_process};

use super::tail::Tail;
use crate::jsonl;

/// Folder of the nested request in the attempt directory.
const FOLDER: &str = "scoring";
/// Time between two looks at the process.
const TICK: Duration = Duration::from_millis(50);

/// Has these pairs scored and hands each score to `take` as soon as it is there. `None` where the work was asked to stop.
///
/// `known` pairs were scored before; they only count as progress.
///
/// # Errors
/// What the scoring worker says, or that it could not be started or died.
pub fn score(
    job: &Job,
    pairs: &[PairRow],
    known: u64,
    mut take: impl FnMut(ScoreRow) -> Result<(), Failure>,
) -> Result<Option<Success>, Failure> {
    let worker = job.request.torch_worker.as_ref().ok_or_else(|| {
        Failure::environment("a local judge needs the worker `neftpipe-stage-torch`, which was not found")
            .with_hint("`cargo xtask setup` builds it; `neftpipe doctor` says where it is looked for")
    })?;
    let folder = job.request.attempt.join(FOLDER);
    write_request(job, &folder, pairs)?;
    let mut process = Process::start(worker, &folder)?;
    let mut events = Tail::new(folder.join(EVENTS_FILE));
    let mut scores = Tail::new(folder.join("out").join(SCORES_OUTPUT).join(SCORES_FILE));
    let total = known + pairs.len() as u64;
    let status = loop {
        let ended = process.ended()?;
        events.read()?.into_iter().for_each(|event: Event| relay(job, event.body, known, total));
        scores.read()?.into_iter().try_for_each(&mut take)?;
        match ended {
            Some(status) => break status,
            None if job.should_stop() => process.ask_to_stop()?,
            None => {}
        }
        std::thread::sleep(TICK);
    };
    match result(job, &folder, status)? {
        StageResult::Succeeded(success) => Ok(Some(*success)),
        StageResult::Failed(failure) => Err(failure),
        StageResult::Interrupted => Ok(None),
    }
}

fn write_request(job: &Job, folder: &Path, pairs: &[PairRow]) -> Result<(), Failure> {
    let out = folder.join("out");
    fs::create_dir_all(&out).map_err(|error| io_failure("create", &out, &error))?;
    jsonl::write(&folder.join(PAIRS_FILE), pairs)?;
    let inputs: IndexMap<_, _> = [("model".to_owned(), job.inputs("model").to_vec())].into_iter().collect();
    let request = Request {
        kind: Kind::Judge,
        version: Kind::Judge.version(),
        inputs,
        attempt: folder.to_owned(),
        out,
        known: None,
        resolved: None,
        torch_worker: None,
        ..job.request.clone()
    };
    write_json(&folder.join(REQUEST_FILE), &request)
}

/// Passes on what a person should see of the nested stage, its progress counted after what was known.
fn relay(job: &Job, body: EventBody, known: u64, total: u64) {
    match body {
        EventBody::Progress { done, unit, message, .. } => job.progress(known + done, Some(total), &unit, message),
        EventBody::Started { .. } | EventBody::Warning { .. } => job.emit(body),
        _ => {}
    }
}

/// What the scoring worker left. One that was told to stop before it could listen left nothing, and has stopped.
fn result(job: &Job, folder: &Path, status: ExitStatus) -> Result<StageResult, Failure> {
    let path = folder.join(RESULT_FILE);
    match fs::read(&path) {
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|error| Failure::internal(format!("{}: {error}", path.display())))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_failure("read", &path, &error)),
        Err(_) if job.should_stop() => Ok(StageResult::Interrupted),
        Err(_) => Err(Failure::environment(format!("the local judge died ({status})"))
            .with_hint("the stage's log may say why; where memory ran out, take a smaller model or `precision: bf16`")),
    }
}

/// The scoring worker. It is ended when it is no longer wanted.
struct Process {
    program: PathBuf,
    child: Child,
    is_asked_to_stop: bool,
}

impl Process {
    fn start(program: &Path, folder: &Path) -> Result<Self, Failure> {
        let child = Command::new(program)
            .args(["exec", "--request"])
            .arg(folder.join(REQUEST_FILE))
            .spawn()
            .map_err(|error| Failure::environment(format!("cannot start {}: {error}", program.display())))?;
        Ok(Self { program: program.to_owned(), child, is_asked_to_stop: false })
    }

    /// Its exit status, once it has ended.
    fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child.try_wait().map_err(|error| self.failure("watch", &error))
    }

    fn ask_to_stop(&mut self) -> Result<(), Failure> {
        if !self.is_asked_to_stop {
            self.is_asked_to_stop = true;
            kill_process(Pid::from_child(&self.child), Signal::TERM)
                .map_err(|error| self.failure("stop", &error.into()))?;
        }
        Ok(())
    }

    fn failure(&self, what: &str, error: &std::io::Error) -> Failure {
        Failure::environment(format!("cannot {what} {}: {error}", self.program.display()))
    }
}

impl Drop for Process {
    /// Nobody takes further scores, and none is lost that was taken. A process that has ended is not there to be killed.
    fn drop(&mut self) {
        if self.child.kill().and_then(|()| self.child.wait()).is_err() {
            eprintln!("warning: {} could not be ended", self.program.display());
        }
    }
}
