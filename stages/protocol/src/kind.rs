//! Stage kinds: their implementation versions, input slots and outputs.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ArtifactType;

/// What a stage does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Brings files from a source and normalises them.
    Download,
    /// Renders templates and turns text into tokens.
    Tokenize,
    /// Fine-tunes a model.
    Train,
    /// Answers prompts.
    Generate,
    /// Measures and compares answers.
    Judge,
    /// Writes the page.
    Report,
    /// Runs a shell command of the user.
    Command,
}

/// How many artifacts a slot takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one.
    One,
    /// At most one.
    Optional,
    /// Any number, also none.
    List,
}

/// A named input of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    /// Its name in `needs`.
    pub name: &'static str,
    /// The artifact types that fit.
    pub types: &'static [ArtifactType],
    /// How many.
    pub arity: Arity,
}

const fn slot(name: &'static str, types: &'static [ArtifactType], arity: Arity) -> Slot {
    Slot { name, types, arity }
}

impl Kind {
    /// All kinds, in the order of a pipeline.
    pub const ALL: [Self; 7] =
        [Self::Download, Self::Tokenize, Self::Train, Self::Generate, Self::Judge, Self::Report, Self::Command];

    /// Its name in pipeline files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Tokenize => "tokenize",
            Self::Train => "train",
            Self::Generate => "generate",
            Self::Judge => "judge",
            Self::Report => "report",
            Self::Command => "command",
        }
    }

    /// Version of the implementation. It enters the key: bump it when equal parameters and inputs give other bytes.
    pub fn version(self) -> u32 {
        match self {
            Self::Download => 2,
            Self::Tokenize => 3,
            Self::Train => 5,
            Self::Generate => 6,
            Self::Judge => 3,
            Self::Report => 7,
            Self::Command => 1,
        }
    }

    /// Version of the rows that a stage of the kind leaves and takes up again. It follows the implementation but for
    /// `judge`: what was asked and paid for stays, whatever is made of it later.
    pub fn rows_version(self) -> u32 {
        match self {
            Self::Judge => 1,
            kind => kind.version(),
        }
    }

    /// Its input slots. `command` takes any name and type, which is said by `None`.
    pub fn slots(self) -> Option<&'static [Slot]> {
        use Arity::{List, One, Optional};
        use ArtifactType::{Adapter, Answers, Dataset, Files, Model, Prompts, Tokens, Verdict};
        const TOKENIZE: &[Slot] = &[
            slot("dataset", &[Dataset], One),
            slot("tokenizer", &[Model], One),
            slot("exclude", &[Prompts], Optional),
        ];
        const TRAIN: &[Slot] =
            &[slot("model", &[Model], One), slot("tokens", &[Tokens], One), slot("adapter", &[Adapter], Optional)];
        const GENERATE: &[Slot] =
            &[slot("model", &[Model], One), slot("prompts", &[Prompts], One), slot("adapter", &[Adapter], Optional)];
        const JUDGE: &[Slot] = &[
            slot("answers", &[Answers], One),
            slot("reference", &[Answers], Optional),
            slot("model", &[Model], Optional),
            slot("annotations", &[Files], Optional),
            slot("annotators", &[Files], Optional),
            slot("length_control", &[Files], Optional),
            slot("calibrate", &[Files], Optional),
        ];
        const REPORT: &[Slot] = &[
            slot("train", &[Adapter, Model], List),
            slot("answers", &[Answers], List),
            slot("verdict", &[Verdict], List),
        ];
        match self {
            Self::Download => Some(&[]),
            Self::Tokenize => Some(TOKENIZE),
            Self::Train => Some(TRAIN),
            Self::Generate => Some(GENERATE),
            Self::Judge => Some(JUDGE),
            Self::Report => Some(REPORT),
            Self::Command => None,
        }
    }

    /// Outputs by name, the plain one first, where the kind alone (and `full` of `train`) says. `download` has one whose
    /// type its content tells, `command` those that its parameters name.
    pub fn outputs(self, full: bool) -> &'static [(&'static str, Option<ArtifactType>)] {
        match self {
            Self::Download | Self::Command => &[("output", None)],
            Self::Tokenize => &[
                ("tokens", Some(ArtifactType::Tokens)),
                ("heldout", Some(ArtifactType::Prompts)),
                ("trained", Some(ArtifactType::Prompts)),
            ],
            Self::Train if full => &[("model", Some(ArtifactType::Model))],
            Self::Train => &[("adapter", Some(ArtifactType::Adapter))],
            Self::Generate => &[("answers", Some(ArtifactType::Answers))],
            Self::Judge => &[("verdict", Some(ArtifactType::Verdict))],
            Self::Report => &[("report", Some(ArtifactType::Report))],
        }
    }

    /// Whether its worker is the one that needs tensors.
    pub fn needs_torch(self) -> bool {
        matches!(self, Self::Train | Self::Generate)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no kind.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a stage kind")]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownKind(name.to_owned()))
    }
}
