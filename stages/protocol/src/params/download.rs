//! `download`: bring files from a source and normalise them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{OneOrMany, StageParams};
use crate::source::Source;
use crate::{ArtifactType, Kind};

/// Parameters of `download`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DownloadParams {
    /// `hf:OWNER/NAME[@REV]`, `hf:datasets/OWNER/NAME[@REV]`, `https://…`, `file:PATH` (relative to the pipeline file) or `pypi:NAME==VERSION`.
    pub from: String,
    /// Globs of the files to take; all where there is none.
    #[serde(default)]
    pub select: OneOrMany<String>,
    /// SHA-256 that the one downloaded file must have, in hex.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Take at most so many rows.
    #[serde(default)]
    pub limit: Option<u64>,
    /// What the files are; guessed from their content where it is plain.
    #[serde(default, rename = "as")]
    pub artifact: Option<DownloadAs>,
    /// Where the fields of a row are: a column's name, or a dotted path into it (`instances.0.output`).
    #[serde(default)]
    pub columns: Option<Columns>,
    /// How the rows of a dataset are laid out.
    #[serde(default)]
    pub format: Option<DatasetFormat>,
}

/// What downloaded files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DownloadAs {
    /// A model (safetensors or GGUF).
    Model,
    /// Training rows.
    Dataset,
    /// Instructions to answer.
    Prompts,
    /// A LoRA adapter in the PEFT layout.
    Adapter,
    /// Answers in AlpacaEval's form.
    Answers,
    /// The files as they are.
    Files,
}

impl From<DownloadAs> for ArtifactType {
    fn from(what: DownloadAs) -> Self {
        match what {
            DownloadAs::Model => Self::Model,
            DownloadAs::Dataset => Self::Dataset,
            DownloadAs::Prompts => Self::Prompts,
            DownloadAs::Adapter => Self::Adapter,
            DownloadAs::Answers => Self::Answers,
            DownloadAs::Files => Self::Files,
        }
    }
}

/// How the rows of a dataset are laid out; each as JSON, JSONL, Parquet or YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatasetFormat {
    /// {instruction, input?, output}
    Alpaca,
    /// {conversations: [{from, value}]}
    Sharegpt,
    /// {messages: [{role, content}]}
    Messages,
    /// {instruction, output}
    Evol,
    /// [question, answer, further answers…]: a row an answer
    Pairs,
}

/// Where the fields of a row are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// What is asked.
    #[serde(default)]
    pub instruction: Option<String>,
    /// What it is asked about.
    #[serde(default)]
    pub input: Option<String>,
    /// The answer to learn.
    #[serde(default)]
    pub output: Option<String>,
    /// The gold answer of a prompt.
    #[serde(default)]
    pub reference: Option<String>,
}

impl DownloadParams {
    /// What the files are said to be: `as`, or a dataset where a `format` is given.
    pub fn said_to_be(&self) -> Option<DownloadAs> {
        self.artifact.or(self.format.map(|_| DownloadAs::Dataset))
    }
}

impl StageParams for DownloadParams {
    const KIND: Kind = Kind::Download;
    /// The checksum only says whether the stage succeeds.
    const NOT_IN_KEY: &'static [&'static str] = &["sha256"];

    /// A local path is not what it holds: the runner adds the content's digests to the key instead.
    fn prune(&self, value: &mut Value) {
        if self.from.starts_with("file:") {
            super::remove(value, "from");
        }
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if let Err(message) = Source::parse(&self.from) {
            problems.push(("from", message));
        }
        if let Some(digest) = self.sha256.as_ref().filter(|digest| !is_sha256(digest)) {
            problems.push(("sha256", format!("`{digest}` is no SHA-256: 64 hex digits are wanted")));
        }
        if self.limit == Some(0) {
            problems.push(("limit", "0 rows leave nothing to do".to_owned()));
        }
        problems
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
