//! What a worker says while it works: one JSON object a line in `events.jsonl`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::Metrics;

/// A line of `events.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 0 without gaps.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventBody {
    /// The worker read its request.
    Started {
        /// `cpu` or `cuda:0`, where the stage has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
    /// So much is done.
    Progress {
        /// Units done, reused work among them.
        done: u64,
        /// Units in all, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
        /// `steps`, `rows`, `bytes`.
        unit: String,
        /// What is at work: a file's name, or `loss 1.87`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// Figures of one step.
    Metric {
        /// The optimizer step, from 1.
        step: u64,
        /// The figures.
        values: Metrics,
    },
    /// A sample to look at: a generated answer, a tokenised row.
    Sample {
        /// The sample.
        value: Value,
    },
    /// Something a person should know.
    Warning {
        /// Stable, for filters: `truncated_rows`.
        code: String,
        /// What and where.
        message: String,
    },
    /// Work that may be reused is whole on disk.
    Saved {
        /// What.
        what: Saved,
    },
    /// The result file is written.
    Finished,
}

/// Work below the stage that outlives its attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Saved {
    /// `checkpoints/<step>/` is whole.
    Checkpoint {
        /// The optimizer step after which it was taken.
        step: u64,
    },
    /// `rows.jsonl` holds whole lines up to here.
    Rows {
        /// Bytes of whole lines.
        bytes: u64,
    },
}
