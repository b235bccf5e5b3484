//! What is remembered of runs: `runs/<id>/journal.jsonl` (every event) and `runs/<id>/run.json` (how each instance ended).
//!
//! It knows events and folders, not how stages are carried out. A run that was killed has a journal and no `run.json`;
//! it is told from the journal.

pub mod keep;
mod life;
pub mod past;
mod recorder;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{Digest, Failure, Kind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::event::{Counts, Event, EventBody, RunOutcome, StageOutcome};
use crate::process::Process;

pub use life::RunState;
pub use recorder::Recorder;

const JOURNAL: &str = "journal.jsonl";
const RECORD: &str = "run.json";
const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%SZ";

/// One run, as it is remembered. While it goes on, `S` looks into the pipeline instead of holding a copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord<S = IndexMap<String, StageRecord>> {
    /// Version of the shape.
    pub version: u32,
    /// Sorts by time: `20261123-164512-4f2a`.
    pub run: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// The pipeline file.
    pub file: PathBuf,
    /// Digest of the pipeline file's bytes, to tell that it has changed since.
    pub file_digest: Digest,
    /// When it began, UTC, RFC 3339.
    pub started: String,
    /// The process that carries it out.
    #[serde(default)]
    pub process: Option<Process>,
    /// How it ended; nothing while it goes on, or where it was killed.
    #[serde(default)]
    pub outcome: Option<RunOutcome>,
    /// What became of its instances; nothing as long as it has not ended.
    #[serde(default)]
    pub counts: Option<Counts>,
    /// Time it took.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// Its instances, in the order of the pipeline.
    pub stages: S,
}

/// One instance of a run. [`Recorder`] writes the same shape.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageRecord {
    /// Its kind.
    pub kind: Kind,
    /// Its axes.
    pub axes: IndexMap<String, Value>,
    /// Its label.
    #[serde(default)]
    pub label: Option<String>,
    /// Every parameter.
    pub params: Value,
    /// Its inputs by slot: instance and output.
    pub inputs: IndexMap<String, Vec<(String, String)>>,
    /// Its key, once it was known.
    #[serde(default)]
    pub key: Option<Digest>,
    /// How it ended.
    #[serde(default)]
    pub outcome: Option<StageOutcome>,
    /// Time it took.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// Whether it was taken up by a run that has not ended. One that has, ended all that it took up.
    #[serde(skip)]
    pub is_begun: bool,
}

impl RunRecord {
    /// What became of its instances, so far where it has not ended.
    pub fn counts(&self) -> Counts {
        self.counts.unwrap_or_else(|| {
            self.stages.values().fold(Counts::default(), |mut counts, stage| {
                match &stage.outcome {
                    None => {}
                    Some(StageOutcome::Executed) => counts.executed += 1,
                    Some(StageOutcome::Cached) => counts.cached += 1,
                    Some(StageOutcome::Failed { .. }) => {
                        counts.executed += usize::from(stage.is_begun);
                        counts.failed += 1;
                    }
                    Some(StageOutcome::Blocked { .. }) => counts.blocked += 1,
                    Some(StageOutcome::Interrupted) => counts.interrupted += 1,
                }
                counts
            })
        })
    }
}

/// Makes the folder of a new run. Its name, the run's id, sorts by time: the second in UTC, and which part of it.
///
/// # Errors
/// Where it cannot be made.
pub fn new_run(runs: &Path) -> Result<String, Failure> {
    fs::create_dir_all(runs).map_err(|error| io_failure("create", runs, &error))?;
    loop {
        let now = jiff::Timestamp::now();
        let part = now.subsec_nanosecond() as u64 * 0x1_0000 / 1_000_000_000;
        let id = format!("{}-{part:04x}", now.strftime("%Y%m%d-%H%M%S"));
        let folder = runs.join(&id);
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(id),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_failure("create", &folder, &error)),
        }
    }
}

/// Whether the record of a run is there.
pub fn is_begun(runs: &Path, id: &str) -> bool {
    runs.join(id).join(RECORD).exists()
}

/// Ids of all runs, oldest first.
///
/// # Errors
/// Where the folder is there but cannot be read.
pub fn list(runs: &Path) -> Result<Vec<String>, Failure> {
    let entries = match fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_failure("read", runs, &error)),
    };
    let mut ids: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join(RECORD).exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    ids.sort();
    Ok(ids)
}

/// The record of a run. What a killed run did not write at its end is taken from its journal.
///
/// # Errors
/// Where there is none, or it is not one.
pub fn load(runs: &Path, id: &str) -> Result<RunRecord, Failure> {
    let path = runs.join(id).join(RECORD);
    let bytes = fs::read(&path).map_err(|error| io_failure("read", &path, &error))?;
    let mut record: RunRecord = match serde_json::from_slice(&bytes) {
        Ok(record) => record,
        Err(error) => {
            tracing::warn!("{} is damaged ({error}): the run is told from its journal", path.display());
            return from_journal(runs, id);
        }
    };
    if record.outcome.is_none() {
        for event in journal(runs, id, &["stage_started", "stage_finished"])? {
            record.note(event.body);
        }
    }
    Ok(record)
}

impl RunRecord {
    /// Takes from an event what it tells of an instance.
    fn note(&mut self, event: EventBody) {
        match event {
            EventBody::StageStarted { stage, key, .. } => {
                if let Some(stage) = self.stages.get_mut(&stage) {
                    (stage.key, stage.is_begun) = (key, true);
                }
            }
            EventBody::StageFinished { stage, key, outcome, seconds, .. } => {
                if let Some(stage) = self.stages.get_mut(&stage) {
                    (stage.key, stage.outcome, stage.seconds) = (key, Some(outcome), Some(seconds));
                }
            }
            _ => {}
        }
    }
}

/// What the journal alone tells of a run.
fn from_journal(runs: &Path, id: &str) -> Result<RunRecord, Failure> {
    let mut record = RunRecord {
        version: 1,
        run: id.to_owned(),
        pipeline: String::new(),
        file: PathBuf::new(),
        file_digest: Digest::of(b""),
        started: String::new(),
        process: None,
        outcome: None,
        counts: None,
        seconds: None,
        stages: IndexMap::new(),
    };
    for Event { time_ms, body, .. } in journal(runs, id, &["run_started", "stage_finished", "run_finished"])? {
        match body {
            EventBody::RunStarted { pipeline, .. } => {
                let started = i64::try_from(time_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
                record.started = started.map_or_else(String::new, |time| time.strftime(TIME_FORMAT).to_string());
                record.pipeline = pipeline;
            }
            EventBody::StageFinished { stage, kind, key, outcome, seconds, .. } => {
                let made = StageRecord {
                    kind,
                    axes: IndexMap::new(),
                    label: None,
                    params: Value::Null,
                    inputs: IndexMap::new(),
                    key,
                    outcome: Some(outcome),
                    seconds: Some(seconds),
                    is_begun: true,
                };
                record.stages.insert(stage, made);
            }
            EventBody::RunFinished { outcome, seconds, counts, .. } => {
                (record.outcome, record.counts, record.seconds) = (Some(outcome), Some(counts), Some(seconds));
            }
            _ => {}
        }
    }
    Ok(record)
}

/// The newest run, of a pipeline where one is named.
///
/// # Errors
/// Where the records cannot be read.
pub fn newest(runs: &Path, pipeline: Option<&str>) -> Result<Option<RunRecord>, Failure> {
    for id in list(runs)?.iter().rev() {
        let record = load(runs, id)?;
        if pipeline.is_none_or(|name| name == record.pipeline) {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// Where the journal of a run is: every event, one a line.
pub fn journal_of(runs: &Path, id: &str) -> PathBuf {
    runs.join(id).join(JOURNAL)
}

/// The events of these names in the journal of a run. Most lines of a journal are progress, and are not decoded.
fn journal(runs: &Path, id: &str, names: &[&str]) -> Result<Vec<Event>, Failure> {
    let wanted: Vec<String> = names.iter().map(|name| format!(r#""event":"{name}""#)).collect();
    let path = runs.join(id).join(JOURNAL);
    let text = fs::read(&path).map_err(|error| io_failure("read", &path, &error))?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter(|line| wanted.iter().any(|wanted| line.contains(wanted)));
    Ok(lines.filter_map(|line| serde_json::from_str(line).ok()).collect())
}
