//! `tokenize`: rows to tokens, and the split into trained and held-out rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::DEFAULT_DATE;
use super::{StageParams, Template};
use crate::Kind;

/// Parameters of `tokenize`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizeParams {
    /// How a row becomes a prompt and an answer.
    pub template: Template,
    /// Longest row in tokens. Longer conversations are split at turns, other longer rows are cut; both are counted.
    pub max_length: u64,
    /// Fraction of the groups of equal (instruction, input) that is kept out of training, by a hash of group and seed.
    pub holdout: f64,
    /// How many trained-on prompts the output `trained` holds.
    pub trained: u64,
    /// Seed of the split.
    pub seed: u64,
    /// Keep only the first of rows that are equal in every field.
    pub deduplicate: bool,
    /// Drop rows that ask what a prompt of the input `exclude` asks: its instruction and input, or one of its user turns.
    pub decontaminate: bool,
    /// What is near enough to be dropped by `decontaminate`.
    pub contamination: Contamination,
    /// The date that a chat template is given.
    pub date_string: String,
}

/// What makes a row one that the evaluation asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Contamination {
    /// When two questions are the same.
    pub text: SameText,
    /// So many words in a row that a row shares with a prompt, in questions or answers: 13 is common practice. 0 asks for none.
    pub ngrams: u64,
}

/// When two texts are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameText {
    /// Equal but for white space around them.
    #[default]
    Exact,
    /// Equal in their letters and digits, whatever their case, punctuation and white space.
    Normalised,
}

/// Fewer words in a row are everyday phrases.
const SHORTEST_NGRAM: u64 = 5;

impl Default for TokenizeParams {
    fn default() -> Self {
        Self {
            template: Template::Alpaca,
            max_length: 512,
            holdout: 0.0,
            trained: 0,
            seed: 0,
            deduplicate: false,
            decontaminate: false,
            contamination: Contamination::default(),
            date_string: DEFAULT_DATE.to_owned(),
        }
    }
}

impl StageParams for TokenizeParams {
    const KIND: Kind = Kind::Tokenize;
    const NOT_IN_KEY: &'static [&'static str] = &[];

    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if !(0.0..1.0).contains(&self.holdout) {
            problems.push(("holdout", format!("{} is not a fraction from 0 up to, but without, 1", self.holdout)));
        }
        if self.max_length < 2 {
            problems.push(("max_length", format!("{} leaves no room for a prompt and an answer", self.max_length)));
        }
        if (1..SHORTEST_NGRAM).contains(&self.contamination.ngrams) {
            let message = format!(
                "{} words in a row are an everyday phrase; {SHORTEST_NGRAM} or more are wanted, or 0 for none",
                self.contamination.ngrams
            );
            problems.push(("contamination.ngrams", message));
        }
        problems
    }
}
