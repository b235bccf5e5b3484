//! `command`: a shell command of the user.

use std::path::{Component, Path};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{OneOrMany, StageParams};
use crate::{ArtifactType, Kind};

/// Parameters of `command`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandParams {
    /// What `/bin/sh -c` is given. `{params.x}`, `{in.slot}`, `{out}` and `{env.NAME}` are filled in.
    pub run: String,
    /// Named values for `{params.x}`.
    #[serde(default)]
    pub params: IndexMap<String, Value>,
    /// Globs of files, relative to the pipeline file, that the command finds at their places. Their contents are in the key.
    #[serde(default)]
    pub files: OneOrMany<String>,
    /// What the command makes; without it, one artifact `files` with all of `{out}`.
    #[serde(default)]
    pub outputs: IndexMap<String, CommandOutput>,
    /// Environment variables that are handed over; their values' digests are in the key.
    #[serde(default)]
    pub env: Vec<String>,
    /// Environment variables that are handed over and enter no key.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Paths of `params` that do not change the output.
    #[serde(default)]
    pub key_ignore: Vec<String>,
}

/// An output of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandOutput {
    /// File or folder below `{out}`.
    pub path: String,
    /// What it is.
    #[serde(default = "files", rename = "as")]
    pub artifact: ArtifactType,
}

impl CommandOutput {
    fn is_inside(&self) -> bool {
        Path::new(&self.path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    }
}

fn files() -> ArtifactType {
    ArtifactType::Files
}

impl StageParams for CommandParams {
    const KIND: Kind = Kind::Command;
    /// The runner adds the contents of `files` and the digests of `env` instead of their names.
    const NOT_IN_KEY: &'static [&'static str] = &["files", "env", "secrets", "key_ignore"];

    fn prune(&self, value: &mut Value) {
        for path in &self.key_ignore {
            super::remove(value, path);
        }
        for (name, _) in self.outputs.iter().filter(|(_, output)| output.artifact == files()) {
            super::remove(&mut value["outputs"][name], "as");
        }
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.run.trim().is_empty() {
            problems.push(("run", "the command is empty".to_owned()));
        }
        if self.key_ignore.iter().any(|path| !path.starts_with("params.")) {
            problems.push(("key_ignore", "only paths that begin with `params.` can be left out of the key".to_owned()));
        }
        for (name, CommandOutput { path, .. }) in self.outputs.iter().filter(|(_, output)| !output.is_inside()) {
            problems.push(("outputs", format!("the path `{path}` of the output `{name}` leads out of {{out}}")));
        }
        problems
    }
}
