//! The frame of a worker program: `describe`, `exec --request FILE`, `ask`, events, the result file, and stopping when asked.
//!
//! It knows the files of the protocol, not what any kind does.

use std::fs::{self, File};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::artifact::Metrics;
use crate::event::{Event, EventBody, Saved};
use crate::question::{Answer, Question};
use crate::request::{Describe, EVENTS_FILE, Input, RESULT_FILE, ROWS_FILE, Request, StageResult, Success};
use crate::{Failure, Kind, PROTOCOL_VERSION};

/// A program that carries out some kinds.
pub trait Worker {
    /// What it is and can do.
    fn describe(&self) -> Describe;

    /// Carries out one stage.
    ///
    /// # Errors
    /// The failure that the person should read.
    fn execute(&self, job: &Job) -> Result<Outcome, Failure>;

    /// Answers a question, if it knows any.
    ///
    /// # Errors
    /// The failure that the person should read.
    fn answer(&self, question: &Question) -> Result<Value, Failure> {
        Err(Failure::internal(format!("{} answers no questions: {question:?}", self.describe().worker)))
    }
}

/// How a stage ended without failing.
#[derive(Debug)]
pub enum Outcome {
    /// It is done.
    Succeeded(Box<Success>),
    /// [`Job::should_stop`] was obeyed; finished work is saved.
    Interrupted,
}

/// One stage at work.
pub struct Job {
    /// What is asked.
    pub request: Request,
    log: Mutex<Log>,
    rows: Mutex<Option<(File, u64)>>,
    stop: Arc<AtomicBool>,
}

struct Log {
    file: File,
    seq: u64,
}

/// Runs a worker program on the arguments of the process.
pub fn run(worker: &impl Worker) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["describe"] => describe(worker),
        ["exec", "--request", path] => exec(worker, Path::new(path)),
        ["ask", question, answer] => ask(worker, Path::new(question), Path::new(answer)),
        _ => {
            eprintln!(
                "usage: describe | exec --request FILE | ask QUESTION ANSWER (this program is started by neftpipe)"
            );
            ExitCode::from(2)
        }
    }
}

fn describe(worker: &impl Worker) -> ExitCode {
    let line = serde_json::to_string(&worker.describe()).expect("a description serialises");
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn ask(worker: &impl Worker, question: &Path, answer: &Path) -> ExitCode {
    let parse = |text: Vec<u8>| {
        serde_json::from_slice(&text)
            .map_err(|error| Failure::internal(format!("{}: not a question: {error}", question.display())))
    };
    let read = || fs::read(question).map_err(|error| io_failure("read", question, &error)).and_then(parse);
    let answered = catch_unwind(AssertUnwindSafe(|| worker.answer(&read()?)));
    let said = match answered {
        Ok(Ok(answer)) => Answer::Answered { answer },
        Ok(Err(failure)) => Answer::Failed(failure),
        Err(panic) => Answer::Failed(Failure::internal(panic_message(panic.as_ref()))),
    };
    match write_json(answer, &said) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn exec(worker: &impl Worker, request: &Path) -> ExitCode {
    let job = match Job::open(request) {
        Ok(job) => job,
        Err(failure) => {
            eprintln!("error: {failure}");
            return ExitCode::FAILURE;
        }
    };
    let outcome =
        catch_unwind(AssertUnwindSafe(|| check_versions(worker, &job.request).and_then(|()| worker.execute(&job))));
    let result = match outcome {
        Ok(Ok(Outcome::Succeeded(success))) => StageResult::Succeeded(success),
        Ok(Ok(Outcome::Interrupted)) => StageResult::Interrupted,
        Ok(Err(failure)) => StageResult::Failed(failure),
        Err(panic) => StageResult::Failed(Failure::internal(panic_message(panic.as_ref()))),
    };
    if let StageResult::Failed(failure) = &result {
        eprintln!("error: {failure}");
    }
    job.emit(EventBody::Finished);
    match write_json(&job.request.attempt.join(RESULT_FILE), &result) {
        Ok(()) if matches!(result, StageResult::Succeeded(_)) => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn check_versions(worker: &impl Worker, request: &Request) -> Result<(), Failure> {
    let Describe { worker: name, kinds, .. } = worker.describe();
    if request.protocol != PROTOCOL_VERSION || kinds.get(&request.kind) != Some(&request.version) {
        return Err(Failure::environment(format!(
            "{name} does not carry out {}@{} over protocol {}",
            request.kind, request.version, request.protocol
        ))
        .with_hint("install neftpipe and its workers from one build"));
    }
    Ok(())
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the worker panicked: {}", text.unwrap_or("no message"))
}

impl Job {
    /// Reads the request, opens the event log and arranges to be told to stop.
    ///
    /// # Errors
    /// Where the request cannot be read or the log cannot be written.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let text = fs::read(path).map_err(|error| io_failure("read", path, &error))?;
        let request: Request = serde_json::from_slice(&text)
            .map_err(|error| Failure::internal(format!("{}: not a request: {error}", path.display())))?;
        let events = request.attempt.join(EVENTS_FILE);
        let file =
            File::options().create(true).append(true).open(&events).map_err(|e| io_failure("write", &events, &e))?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&stop))
                .map_err(|error| Failure::internal(format!("signal {signal} cannot be handled: {error}")))?;
        }
        stop_with_parent(&stop);
        Ok(Self { request, log: Mutex::new(Log { file, seq: 0 }), rows: Mutex::new(None), stop })
    }

    /// The typed parameters.
    ///
    /// # Errors
    /// Where they are not what this build of the worker knows.
    pub fn params<P: DeserializeOwned>(&self) -> Result<P, Failure> {
        serde_json::from_value(self.request.params.clone())
            .map_err(|error| Failure::internal(format!("{}: parameters: {error}", self.request.stage)))
    }

    /// The one artifact of a slot.
    ///
    /// # Errors
    /// Where the request has none.
    pub fn input(&self, slot: &str) -> Result<&Input, Failure> {
        self.optional_input(slot)
            .ok_or_else(|| Failure::internal(format!("{}: the input `{slot}` is missing", self.request.stage)))
    }

    /// The artifact of a slot, if there is one.
    pub fn optional_input(&self, slot: &str) -> Option<&Input> {
        self.inputs(slot).first()
    }

    /// All artifacts of a slot.
    pub fn inputs(&self, slot: &str) -> &[Input] {
        self.request.inputs.get(slot).map_or(&[], Vec::as_slice)
    }

    /// Makes the folder of an output.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn output(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.request.out.join(name);
        fs::create_dir_all(&path).map_err(|error| io_failure("create", &path, &error))?;
        Ok(path)
    }

    /// Whether the worker was asked to finish its step, save and stop.
    pub fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says something. A log that cannot be written is no reason to fail: what counts is the result file.
    pub fn emit(&self, body: EventBody) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64;
        let event = Event { seq: log.seq, time_ms, body };
        let mut line = serde_json::to_vec(&event).expect("events serialise");
        line.push(b'\n');
        match log.file.write_all(&line) {
            Ok(()) => log.seq += 1,
            Err(error) => eprintln!("warning: events.jsonl: {error}"),
        }
    }

    /// Says how much is done.
    pub fn progress(&self, done: u64, total: Option<u64>, unit: &str, message: Option<String>) {
        self.emit(EventBody::Progress { done, total, unit: unit.to_owned(), message });
    }

    /// Says figures of a step.
    pub fn metric(&self, step: u64, values: Metrics) {
        self.emit(EventBody::Metric { step, values });
    }

    /// Says what a person should know.
    pub fn warn(&self, code: &str, message: impl Into<String>) {
        self.emit(EventBody::Warning { code: code.to_owned(), message: message.into() });
    }

    /// Appends a row that later attempts may reuse, and says so.
    ///
    /// # Errors
    /// Where the row cannot be written.
    pub fn save_row(&self, row: &Value) -> Result<(), Failure> {
        let path = self.request.attempt.join(ROWS_FILE);
        let failure = |error: &std::io::Error| io_failure("write", &path, error);
        let mut slot = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            let file = File::options().create(true).append(true).open(&path).map_err(|e| failure(&e))?;
            *slot = Some((file, 0));
        }
        let (file, bytes) = slot.as_mut().expect("just opened");
        let mut line = serde_json::to_vec(row).expect("rows serialise");
        line.push(b'\n');
        file.write_all(&line).map_err(|e| failure(&e))?;
        *bytes += line.len() as u64;
        self.emit(EventBody::Saved { what: Saved::Rows { bytes: *bytes } });
        Ok(())
    }

    /// Rows of earlier work on this stage, each a JSON object; lines that are cut short are passed over.
    ///
    /// # Errors
    /// Where the file is there but cannot be read.
    pub fn known_rows(&self) -> Result<Vec<Value>, Failure> {
        let Some(known) = &self.request.known else { return Ok(Vec::new()) };
        let path = known.join(ROWS_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(io_failure("read", &path, &error)),
        }
    }
}

/// The facts that every worker's provenance holds.
pub fn provenance(worker: &str, version: &str, threads: usize) -> Metrics {
    [
        ("worker".to_owned(), Value::from(worker)),
        ("worker_version".to_owned(), Value::from(version)),
        ("threads".to_owned(), Value::from(threads)),
    ]
    .into_iter()
    .collect()
}

/// A description with the kinds at the versions of this build.
pub fn description(worker: &str, kinds: &[Kind], facts: Metrics) -> Describe {
    let kinds = kinds.iter().map(|&kind| (kind, kind.version())).collect();
    Describe { protocol: PROTOCOL_VERSION, worker: worker.to_owned(), kinds, facts }
}

/// A failure of reading or writing: a full disk and the like are the environment's.
pub fn io_failure(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::environment(format!("cannot {what} {}: {error}", path.display()));
    match error.kind() {
        std::io::ErrorKind::StorageFull => {
            failure.with_hint("free some space (`neftpipe gc --dry-run` says what it could drop) and run again")
        }
        _ => failure,
    }
}

/// Writes JSON by rename, so that a reader sees all of it or nothing.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Failure> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(|error| Failure::internal(format!("{}: {error}", path.display())))?;
    bytes.push(b'\n');
    write_whole(path, &bytes)
}

/// Writes a file so that a reader sees all of it or what was there before.
///
/// # Errors
/// Where it cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let partial = path.with_extension("partial");
    File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path))
        .map_err(|error| io_failure("write", path, &error))
}

/// A worker whose parent has gone is killed by the kernel; the watch covers a parent that went before that was arranged.
fn stop_with_parent(stop: &Arc<AtomicBool>) {
    let parent = getppid();
    if set_parent_process_death_signal(Some(Signal::KILL)).is_ok() && getppid() == parent {
        return;
    }
    stop.store(true, Ordering::Relaxed);
}
