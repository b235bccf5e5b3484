//! What the program asks a worker apart from stages: `ask QUESTION ANSWER`, two JSON files.
//!
//! Nothing of it enters a key; answers are for people.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::params::Precision;

/// A question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Write a model with its adapter merged into the weights; answered by [`Merged`].
    Merge(Merge),
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
