//! What the program asks a worker apart from stages: `ask QUESTION ANSWER`, two JSON files.
//!
//! Nothing of it enters a key; answers are for people.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use serde_json::Value;

use crate::params::{Precision, TrainParams};
use crate::{Digest, Failure};

/// A question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Write a model with its adapter merged into the weights; answered by [`Merged`].
    Merge(Merge),
    /// Train a model of random weights on random rows, in memory alone; answered by [`Tried`].
    Try(Box<Trial>),
}

/// Folders, and the number format of the weights that are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Merge {
    /// The base model.
    pub model: PathBuf,
    /// The adapter.
    pub adapter: PathBuf,
    /// Where to: a folder that is there.
    pub out: PathBuf,
    /// Number format of the file; it is computed in f32.
    pub precision: Precision,
}

/// What merging came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Merged {
    /// Weights that the merged model has other than its base, computed in f32.
    pub changed: u64,
    /// Share of them that still differ once both are rounded to bf16; none where nothing changed.
    pub bf16_surviving_share: Option<f64>,
}

/// A few steps of training that need no files: the weights and the rows are pure functions of the seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The `config.json` of the model.
    pub config: Value,
    /// How it is trained: device, precision, steps, batch, adapter, seed.
    pub params: TrainParams,
    /// Tokens of each row; the second half of them carries loss.
    pub row_tokens: Vec<u64>,
    /// Threads to compute with.
    pub threads: usize,
}

/// What a trial came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// The loss of each step.
    pub losses: Vec<f64>,
    /// Of the trained adapter's bytes.
    pub adapter: Digest,
    /// Without the first two steps; none where there are no others.
    pub tokens_per_second: Option<f64>,
    /// Most memory held at a time: of the GPU where it was trained there, else of the process.
    pub peak_memory_bytes: Option<u64>,
}

/// The answer, or why there is none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Answer {
    /// There is one.
    Answered {
        /// What the question says that it is answered by.
        answer: serde_json::Value,
    },
    /// There is none.
    Failed(Failure),
}
