//! The files between the runner and a worker: `request.json` in, `result.json` out, and the answer to `describe`.
//!
//! A worker is started as `WORKER exec --request request.json` in its attempt directory. It appends to `events.jsonl`
//! there, leaves its outputs under [`Request::out`], and writes `result.json` by rename at the end. Its exit status is 0
//! exactly when the result says so. It never sees the store.

use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::Metrics;
use crate::{ArtifactType, Digest, Failure, Kind};

/// Name of the request in the attempt directory.
pub const REQUEST_FILE: &str = "request.json";
/// Name of the event log in the attempt directory.
pub const EVENTS_FILE: &str = "events.jsonl";
/// Name of the result in the attempt directory.
pub const RESULT_FILE: &str = "result.json";
/// Name of the rows that may be reused, in the attempt directory and under [`Request::known`].
pub const ROWS_FILE: &str = "rows.jsonl";
/// Name of the folder of checkpoints, in the attempt directory and under [`Request::known`]; each is a folder `<step>/`.
pub const CHECKPOINTS_DIR: &str = "checkpoints";

/// What a worker is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// The kind of the stage.
    pub kind: Kind,
    /// The implementation version that the plan counted on.
    pub version: u32,
    /// The instance, for messages: `train[variant=neft5,seed=0]`.
    pub stage: String,
    /// The resolved parameters; see [`crate::params`].
    pub params: Value,
    /// Input artifacts by slot. A slot of one artifact is a list of one.
    pub inputs: IndexMap<String, Vec<Input>>,
    /// The attempt directory, absolute.
    pub attempt: PathBuf,
    /// Where outputs go: `out/<output name>/…`, absolute, empty at the start.
    pub out: PathBuf,
    /// Read-only folder with rows and checkpoints of earlier work, absolute, where there is any.
    #[serde(default)]
    pub known: Option<PathBuf>,
    /// Folder for what a `download` has brought, absolute: it outlives an attempt that fails or is killed, and the next one
    /// goes on from what is there. Removed by the worker once the stage is done.
    #[serde(default)]
    pub partial: Option<PathBuf>,
    /// Steps after which `train` writes `checkpoints/<step>/` and says `saved`, ascending.
    #[serde(default)]
    pub checkpoints: Vec<u64>,
    /// How the inputs were made; given to `report` alone.
    #[serde(default)]
    pub lineage: Option<Lineage>,
    /// Folder that relative `file:` sources are relative to.
    pub base: PathBuf,
    /// What a movable source resolved to in an earlier run.
    #[serde(default)]
    pub resolved: Option<Value>,
    /// The worker that needs tensors, for a `judge` that asks a local model through it.
    #[serde(default)]
    pub torch_worker: Option<PathBuf>,
    /// What the stages of the run may spend together.
    #[serde(default)]
    pub budget: Option<RunBudget>,
    /// Do not touch the network.
    #[serde(default)]
    pub offline: bool,
    /// Threads that the stage may use.
    pub threads: usize,
}

/// What the stages of a run may spend together. Each adds what it spends to the ledger, under a lock on the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunBudget {
    /// Dollars.
    pub limit_usd: f64,
    /// The file that holds what is spent, absolute; there is none before the first request.
    pub ledger: PathBuf,
}

/// An input artifact.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Input {
    /// Its read-only folder, absolute.
    pub path: PathBuf,
    /// What it is.
    #[serde(rename = "type")]
    pub artifact_type: ArtifactType,
    /// Digest of its content.
    pub digest: Digest,
    /// The instance that made it: `train[variant=neft5,seed=0]`.
    pub stage: String,
    /// Label of that stage for people, where it has one.
    #[serde(default)]
    pub label: Option<String>,
    /// Its axes, in order.
    pub axes: IndexMap<String, Value>,
}

/// How an artifact was made: no paths, no times. Given to `report`, and part of its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    /// Name of the pipeline's file, without its folder.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pipeline: String,
    /// Every stage above the report, each once, inputs before those who need them.
    pub stages: Vec<LineageStage>,
    /// What the report, or a stage above it, goes on without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
}

/// An input that a gathering stage goes on without, since it could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Missing {
    /// The instance.
    pub stage: String,
    /// Why: `failed`, or `needs train[variant=neft5], which failed`.
    pub why: String,
}

/// One stage of a lineage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineageStage {
    /// The instance: `train[variant=neft5,seed=0]`.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// Label for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Axes, in order.
    pub axes: IndexMap<String, Value>,
    /// Parameters that are not at their defaults.
    pub params: Value,
    /// Inputs by slot.
    pub inputs: IndexMap<String, Vec<LineageInput>>,
    /// Outputs by name.
    pub outputs: IndexMap<String, Digest>,
    /// Rows of its tokens to train on. They follow from the output, so no key holds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_rows: Option<u64>,
    /// The stage's key.
    pub key: Digest,
}

/// An input of a stage: the output of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageInput {
    /// The instance that made it.
    pub stage: String,
    /// Which of its outputs, by name.
    pub output: String,
}

/// What a worker leaves in `result.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum StageResult {
    /// It is done.
    Succeeded(Box<Success>),
    /// It is not, and says why.
    Failed(Failure),
    /// It was asked to stop and did, its finished work saved.
    Interrupted,
}

/// What a finished stage hands over.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Success {
    /// Outputs by name, each a folder under [`Request::out`] with the output's name.
    pub outputs: IndexMap<String, ArtifactType>,
    /// Figures that are the same for every run of the key.
    pub metrics: Metrics,
    /// Figures that are measured: rates, memory, steps computed.
    pub measured: Metrics,
    /// Device, library versions, threads.
    pub provenance: Metrics,
    /// What a movable source resolved to (commit, file digests, sizes), for the lock file.
    #[serde(default)]
    pub resolved: Option<Value>,
}

/// What `WORKER describe` prints as one line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Describe {
    /// [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// Name and version of the program.
    pub worker: String,
    /// The kinds it carries out, with their implementation versions.
    pub kinds: IndexMap<Kind, u32>,
    /// Facts of libraries and devices, for `doctor`.
    pub facts: Metrics,
}
