//! What happens in a run: the only link between running and showing or recording it.
//!
//! `run --json` prints these, one a line; the journal of a run is a file of them.

use indexmap::IndexMap;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::{Digest, FailureClass, Kind};
use serde::{Deserialize, Serialize};

use crate::plan::Reason;

/// Something that happened, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Version of the shape.
    pub version: u32,
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// What.
    #[serde(flatten)]
    pub body: EventBody,
}

impl Event {
    /// It happens now.
    pub fn now(body: EventBody) -> Self {
        let time_ms = jiff::Timestamp::now().as_millisecond().max(0) as u64;
        Self { version: 1, time_ms, body }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventBody {
    /// A run begins.
    RunStarted {
        /// Its id.
        run: String,
        /// Name of the pipeline.
        pipeline: String,
        /// Instances that were asked for, with what they need.
        stages: usize,
    },
    /// Not everything is there: the first stage is about to be taken up.
    WorkBegins,
    /// A worker or command starts on an instance.
    StageStarted {
        /// The instance.
        stage: String,
        /// Its kind.
        kind: Kind,
        /// Its key.
        #[serde(default)]
        key: Option<Digest>,
        /// 1 for the first attempt.
        attempt: u32,
        /// Why it runs.
        #[serde(default)]
        reasons: Vec<Reason>,
    },
    /// Another process does the same work; this one waits for it.
    StageWaiting {
        /// The instance.
        stage: String,
        /// Who does the work.
        holder: String,
    },
    /// So much of an instance is done.
    StageProgress {
        /// The instance.
        stage: String,
        /// Units done.
        done: u64,
        /// Units in all, where known.
        total: Option<u64>,
        /// `steps`, `rows`, `bytes`.
        unit: String,
        /// What is at work.
        message: Option<String>,
    },
    /// Figures of a step.
    StageMetric {
        /// The instance.
        stage: String,
        /// The optimizer step, from 1.
        step: u64,
        /// The figures.
        values: Metrics,
    },
    /// Something a person should know.
    StageWarning {
        /// The instance.
        stage: String,
        /// Stable, for filters.
        code: String,
        /// What and where.
        message: String,
    },
    /// An attempt failed and will be followed by another.
    StageRetrying {
        /// The instance.
        stage: String,
        /// Why the attempt failed.
        message: String,
        /// Wait before the next.
        seconds: f64,
    },
    /// An instance is done with, one way or another.
    StageFinished {
        /// The instance.
        stage: String,
        /// Its kind.
        kind: Kind,
        /// Its key, where it was known.
        key: Option<Digest>,
        /// How it ended.
        outcome: StageOutcome,
        /// Time it took; for a cached one the time that its making took.
        seconds: f64,
        /// Digests of its outputs.
        #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
        outputs: IndexMap<String, Digest>,
    },
    /// Something of the run as a whole that a person should know.
    RunWarning {
        /// Stable, for filters.
        code: String,
        /// What.
        message: String,
    },
    /// A run ends.
    RunFinished {
        /// Its id.
        run: String,
        /// How.
        outcome: RunOutcome,
        /// What became of its instances.
        #[serde(flatten)]
        counts: Counts,
        /// Time it took.
        seconds: f64,
        /// Time that the making of cached results took, when they were made.
        #[serde(default)]
        saved_seconds: f64,
    },
}

/// Instances of a run by what became of them. What was not begun is in none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Their worker or command ran to its end, well or not.
    pub executed: usize,
    /// Their result was there.
    pub cached: usize,
    /// They failed.
    pub failed: usize,
    /// They could not run since something they need failed.
    pub blocked: usize,
    /// They were asked to stop before they had ended.
    pub interrupted: usize,
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StageOutcome {
    /// Its worker or command ran to the end.
    Executed,
    /// Its result was there.
    Cached,
    /// It failed.
    Failed {
        /// Whose fault it is.
        class: FailureClass,
        /// What happened, and where.
        message: String,
        /// What to do about it.
        #[serde(default)]
        hint: Option<String>,
    },
    /// Something it needs failed.
    Blocked {
        /// The instance that failed.
        by: String,
    },
    /// It was asked to stop.
    Interrupted,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Everything asked for is there.
    Succeeded,
    /// Something failed.
    Failed,
    /// It was asked to stop.
    Interrupted,
}
