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
    /// Drop rows whose instruction and input stand in the input `exclude`.
    pub decontaminate: bool,
    /// The date that a chat template is given.
    pub date_string: String,
}

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
        problems
    }
}
