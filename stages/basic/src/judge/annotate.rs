//! Preferences between answers and the reference's, in the form of AlpacaEval's annotations.
//!
//! Equal outputs are a draw without asking. It knows what a judge makes of a pair, not how a judge is asked.

use neftpipe_measures::leaderboard::{Annotation, text_or_null};
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::judging::{Comparison, Pair, comparison};
use neftpipe_protocol::scoring::LabelScores;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What equal outputs get.
const DRAW: f64 = 1.5;

/// A row of `annotations.json`, in AlpacaEval's form.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AnnotationRow {
    /// Instruction, blank line and input.
    pub instruction: String,
    /// The reference's output.
    pub output_1: String,
    /// Who made it.
    #[serde(default, deserialize_with = "text_or_null")]
    pub generator_1: String,
    /// The set that the prompt comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The output that is judged.
    pub output_2: String,
    /// Who made it.
    #[serde(default, deserialize_with = "text_or_null")]
    pub generator_2: String,
    /// Who judged.
    #[serde(default, deserialize_with = "text_or_null")]
    pub annotator: String,
    /// From 1 (`output_1` is better) to 2 (`output_2` is); null where the judge could not read the pair.
    pub preference: Option<f64>,
    /// What the judge said; null where nobody was asked.
    #[serde(default)]
    pub raw_completion: Completion,
}

/// What a judge said of a pair.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Completion {
    /// Nobody was asked.
    #[default]
    Nothing,
    /// Log-probabilities of the two labels of a local judge, in both orders.
    Labels([LabelScores; 2]),
    /// What a service answered, as AlpacaEval keeps it.
    Answer(Value),
}

/// What a judge thinks of one comparison.
#[derive(Debug, Clone, Default)]
pub struct Opinion {
    /// 1 for `output_1` to 2 for `output_2`; none where the judge could not read the pair, or its answer cannot be read.
    pub preference: Option<f64>,
    /// What it said.
    pub completion: Completion,
}

/// What a judge made of all comparisons that it was given.
#[derive(Debug, Default)]
pub struct Judged {
    /// One a comparison, in their order.
    pub opinions: Vec<Opinion>,
    /// Comparisons that were judged now.
    pub judged: u64,
    /// Comparisons that were judged in earlier work.
    pub reused: u64,
    /// Further measured figures: what was paid.
    pub measured: Metrics,
    /// Device and versions of the judge, where it was asked.
    pub provenance: Metrics,
}

impl AnnotationRow {
    /// Whether the outputs are equal, so that nobody was asked.
    pub fn is_identical(&self) -> bool {
        self.output_1 == self.output_2
    }

    /// Whether a judge was asked in both orders, and then whether it prefers the same output in both.
    pub fn consistency(&self) -> Option<bool> {
        match self.raw_completion {
            Completion::Labels([in_order, swapped]) => {
                Some((in_order.second_preferred() > 0.5) == (swapped.second_preferred() < 0.5))
            }
            _ => None,
        }
    }

    /// What AlpacaEval's figures need of the row.
    pub fn annotation(&self) -> Annotation {
        Annotation {
            instruction: self.instruction.clone(),
            output_1: self.output_1.clone(),
            output_2: self.output_2.clone(),
            generator_1: self.generator_1.clone(),
            generator_2: self.generator_2.clone(),
            preference: self.preference,
        }
    }
}

/// The row of a pair; none of whose outputs are equal needs an opinion.
pub fn annotation(pair: &Pair, annotator: &str, opinion: Opinion) -> AnnotationRow {
    let Comparison { instruction, output_1, output_2 } = comparison(pair);
    let opinion = match output_1 == output_2 {
        true => Opinion { preference: Some(DRAW), completion: Completion::Nothing },
        false => opinion,
    };
    AnnotationRow {
        instruction,
        output_1,
        generator_1: pair.reference.generator.clone(),
        dataset: pair.answer.dataset.clone(),
        output_2,
        generator_2: pair.answer.generator.clone(),
        annotator: annotator.to_owned(),
        preference: opinion.preference,
        raw_completion: opinion.completion,
    }
}
