//! A checked pipeline: what the rest of the program works with. It holds no YAML, and no positions but those of warnings.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use neftpipe_protocol::request::Missing;
use neftpipe_protocol::{ArtifactType, Failure, Kind};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::diagnostic::Problems;
pub use super::settled::Settled;

/// A pipeline file, checked, its matrices expanded.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// `name` of the file, else the file's stem.
    pub name: String,
    /// `description` of the file.
    pub description: Option<String>,
    /// The file, absolute.
    pub file: PathBuf,
    /// Folder of the file.
    pub base: PathBuf,
    /// Instances, inputs before those who need them.
    pub instances: Vec<Instance>,
    /// What a person should know although nothing is wrong.
    pub warnings: Arc<Problems>,
}

/// One stage for one combination of its axes.
#[derive(Debug, Clone)]
pub struct Instance {
    /// `train[dataset=alpaca,variant=neft5,seed=0]`; the plain stage name where it has no axes.
    pub id: String,
    /// Name of the stage.
    pub stage: String,
    /// Name of the stage for people.
    pub label: Option<String>,
    /// What it does.
    pub kind: Kind,
    /// Its axes: inherited first, in the order of `needs`, then declared. Labels are strings.
    pub axes: IndexMap<String, Value>,
    /// Inputs by slot, in the order of `needs`.
    pub inputs: IndexMap<String, Vec<InputRef>>,
    /// Inputs that it goes on without (`--partial`), since they could not be made.
    pub missing: Vec<Missing>,
    /// Its parameters.
    pub params: Settled,
    /// Outputs by name, the plain one first. The type is unknown where only the content can tell.
    pub outputs: IndexMap<String, Option<ArtifactType>>,
    /// Folder of the file that the stage stands in, which `file:` sources and `files` are relative to; an included file may
    /// stand elsewhere than the pipeline's.
    pub base: Arc<Path>,
    /// What it may use of the machine.
    pub resources: Resources,
    /// It is stopped after this long.
    pub timeout: Option<Duration>,
    /// What happens when it fails.
    pub retry: Retry,
}

/// An input of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRef {
    /// Index into [`Pipeline::instances`]; always below the index of who needs it.
    pub instance: usize,
    /// Name of the output there.
    pub output: String,
    /// Whether the slot or reference gathers: its axes then enter the key beside the digest.
    pub gathered: bool,
}

/// What a stage may use of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// CPU cores; all where not said.
    pub cpus: Option<u32>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Graphics processors.
    pub gpus: Gpus,
}

/// How many graphics processors a stage wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gpus {
    /// One where there is a usable one.
    #[default]
    Auto,
    /// So many, and never a CPU instead (0: a CPU).
    Count(u32),
}

/// What happens when a stage fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all.
    pub attempts: u32,
    /// Wait before the second attempt; doubled before each further one.
    pub backoff: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 1, backoff: Duration::from_secs(5) }
    }
}

impl Pipeline {
    /// The instance of this name.
    pub fn instance(&self, id: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }
}

impl Instance {
    /// The parameters, typed.
    ///
    /// # Errors
    /// Where they are not those of the kind.
    pub fn typed_params<P: DeserializeOwned>(&self) -> Result<P, Failure> {
        self.params.typed().map_err(|error| Failure::internal(format!("{}: parameters: {error}", self.id)))
    }

    /// Name of the output that the plain stage name means.
    pub fn plain_output(&self) -> &str {
        self.outputs.keys().next().map_or("output", String::as_str)
    }
}
