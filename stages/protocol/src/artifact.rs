//! Artifact types, and the names of the files inside each.
//!
//! | type | files |
//! |---|---|
//! | `files` | anything |
//! | `model` | `config.json`, `model.safetensors` (or shards with an index), `tokenizer.json`, `tokenizer_config.json`, `generation_config.json`? |
//! | `dataset` | `rows.jsonl` (each a [`DatasetRow`]), `dataset.json` (counts) |
//! | `prompts` | `prompts.jsonl` (each a [`PromptRow`]) |
//! | `tokens` | `train.safetensors`, `heldout.safetensors`, `tokens.json` (a [`TokensInfo`]), `preview.jsonl` (the first training rows, each a list of [`PreviewPiece`]) |
//! | `adapter` | `adapter_model.safetensors`, `adapter_config.json` (as PEFT writes them), `neftpipe.json` (an [`AdapterInfo`]), `steps.jsonl` (a [`TrainStep`] a line), `metrics.json` (a [`TrainMetrics`]) |
//! | `answers` | `answers.json`: AlpacaEval's list of {instruction, output, generator, …} (each an [`AnswerRow`]) |
//! | `verdict` | `verdict.json` (figures), `rows.jsonl` (measures by row), `annotations.json` (AlpacaEval's form, when answers were compared) |
//! | `report` | `index.html`, `report.json` |
//!
//! A `tokens` split is flat: `input_ids` (i32, all rows one after the other), `trained` (u8, 1 where the token carries
//! loss), `offsets` (i64, rows + 1). Files of an artifact hold nothing that differs between two runs of one key.

use std::fmt;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an artifact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactType {
    /// Any files.
    Files,
    /// A model in the Hugging Face layout.
    Model,
    /// Training rows.
    Dataset,
    /// Instructions to answer, with references where there are any.
    Prompts,
    /// Tokenised rows, both splits.
    Tokens,
    /// A LoRA adapter in the PEFT layout.
    Adapter,
    /// Answers of a model.
    Answers,
    /// Measures and preferences of answers.
    Verdict,
    /// A page and its data.
    Report,
}

impl fmt::Display for ArtifactType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Model => "model",
            Self::Dataset => "dataset",
            Self::Prompts => "prompts",
            Self::Tokens => "tokens",
            Self::Adapter => "adapter",
            Self::Answers => "answers",
            Self::Verdict => "verdict",
            Self::Report => "report",
        })
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

/// A training row: an instruction with its output, or a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DatasetRow {
    /// A conversation that alternates user and assistant turns, perhaps after a system turn.
    Conversation {
        /// The turns.
        messages: Vec<Message>,
    },
    /// One instruction and its output.
    Instruction {
        /// What is asked.
        instruction: String,
        /// What it is asked about; may be empty.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        input: String,
        /// The answer to learn.
        output: String,
    },
}

/// An instruction to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptRow {
    /// What is asked.
    pub instruction: String,
    /// What it is asked about; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub input: String,
    /// Gold answers; measures take the best. One of them is written as a string.
    #[serde(default, with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub reference: Vec<String>,
    /// The set that the prompt comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
}

/// An answer, in AlpacaEval's form with our own fields beside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerRow {
    /// What was asked. In AlpacaEval's own files instruction, blank line and input are one text.
    pub instruction: String,
    /// What it was asked about; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub input: String,
    /// The answer.
    pub output: String,
    /// Who answered: the model's name and twelve digits of the adapter's digest.
    pub generator: String,
    /// The set that the prompt comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Gold answers of the prompt, handed on to `judge`.
    #[serde(default, with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub reference: Vec<String>,
    /// `stop` (an end token) or `length`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Tokens of the rendered prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// Tokens generated, the end token among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// Digest of the rendered prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_digest: Option<String>,
}

/// `tokens.json`: how the tokens were made and what they hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokensInfo {
    /// The template's name or the text of a Jinja file; see [`crate::params::Template`].
    pub template: crate::params::Template,
    /// The pinned date of the chat template.
    pub date_string: String,
    /// Longest row.
    pub max_length_tokens: u64,
    /// The end-of-text token that ends an answer.
    pub eos_token_id: u32,
    /// Rows by split.
    pub train: SplitInfo,
    /// Rows kept out of training.
    pub heldout: SplitInfo,
    /// Rows dropped, by reason (`duplicate`, `no_trained_token`, …).
    pub dropped: IndexMap<String, u64>,
}

/// A stretch of a training row as the model sees it: cut at the longest length, special tokens spelled out. The first 20
/// training rows stand in `preview.jsonl`, one a line, each a list of pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewPiece {
    /// The text of the piece's tokens.
    pub text: String,
    /// Whether they carry loss.
    pub trained: bool,
}

/// Counts of one split.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitInfo {
    /// Rows.
    pub rows: u64,
    /// Groups of equal (instruction, input).
    pub groups: u64,
    /// All tokens.
    pub tokens: u64,
    /// Tokens that carry loss.
    pub trained_tokens: u64,
    /// Rows cut at the longest length.
    pub truncated_rows: u64,
    /// Longest row before it was cut.
    pub longest_tokens: u64,
    /// Conversations that are several rows, because they are too long for one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub split_conversations: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// `neftpipe.json` of an adapter (or of a fully fine-tuned model): what `generate` must know of how it was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterInfo {
    /// The template of its training rows.
    pub template: crate::params::Template,
    /// The pinned date of the chat template.
    pub date_string: String,
    /// Digest of the base model.
    pub base_model: crate::Digest,
    /// Optimizer steps.
    pub steps: u64,
}

/// A line of `steps.jsonl`: one optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainStep {
    /// Counts from 1.
    pub step: u64,
    /// Nats per trained token of the step's batch, noise on.
    pub loss: f64,
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// The noise's alpha of the step.
    pub alpha: f64,
    /// Mean of alpha/√(L·d) over the rows of the step.
    pub noise_magnitude: f64,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Tokens of the batch without padding.
    pub tokens: u64,
    /// Tokens that carried loss.
    pub supervised_tokens: u64,
}

/// `metrics.json` of an adapter: what training came to, the same for every run of its key.
///
/// The probe is a fixed set of rows whose losses are taken with the noise off. Its lists run in parallel: places of the
/// rows in their split from 0, mean loss of each row's supervised tokens in nats, and how many of those there are. Runs of
/// one seed on the same tokens probe the same rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainMetrics {
    /// Optimizer steps.
    pub steps: u64,
    /// With early stopping, the steps that the weights left have taken: those of the best evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_step: Option<u64>,
    /// With early stopping, the step at which it stopped, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<u64>,
    /// Loss of the last step, noise on.
    pub final_train_loss: Option<f64>,
    /// Loss over all supervised tokens of the probe's trained rows, noise off.
    pub probe_train_loss: Option<f64>,
    /// The same over its held-out rows.
    pub probe_heldout_loss: Option<f64>,
    /// Mean of alpha² over the steps: schedules are compared at equal values of it.
    pub alpha_mean_square: f64,
    /// Tokens of all steps, without padding.
    pub tokens: u64,
    /// Tokens of all steps that carried loss.
    pub supervised_tokens: u64,
    /// Weights that were trained.
    pub trained_parameters: u64,
    /// Rows of the training split in the probe.
    pub probe_train_rows: Vec<u64>,
    /// Their losses.
    pub probe_train_losses: Vec<f64>,
    /// Their supervised tokens.
    pub probe_train_tokens: Vec<u64>,
    /// Rows of the held-out split in the probe.
    pub probe_heldout_rows: Vec<u64>,
    /// Their losses.
    pub probe_heldout_losses: Vec<f64>,
    /// Their supervised tokens.
    pub probe_heldout_tokens: Vec<u64>,
}

/// Named figures, in a stable order.
pub type Metrics = IndexMap<String, Value>;

/// Serde for a list that is written as its only item where it has one.
pub mod one_or_many {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the only item bare.
    pub fn serialize<S: Serializer>(items: &[String], serializer: S) -> Result<S::Ok, S::Error> {
        match items {
            [only] => serializer.serialize_str(only),
            _ => items.serialize(serializer),
        }
    }

    /// Reads null, one item or a list.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            None(()),
            One(String),
            Many(Vec<String>),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::None(()) => Vec::new(),
            Form::One(item) => vec![item],
            Form::Many(items) => items,
        })
    }
}
