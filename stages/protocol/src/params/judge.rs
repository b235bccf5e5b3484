//! `judge`: measure answers, and compare them with an opponent's.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Device, Precision, StageParams};
use crate::Kind;

/// Parameters of `judge`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeParams {
    /// Who compares: `local` (the model of the slot `model`), or the name of a public AlpacaEval annotator.
    pub annotator: Option<String>,
    /// Measures that need no judge.
    pub metrics: Vec<Measure>,
    /// The service that a named annotator asks.
    pub endpoint: Option<Endpoint>,
    /// Stop cleanly before this much is spent.
    pub max_cost_usd: Option<f64>,
    /// Requests at a time.
    pub concurrency: u64,
    /// Options of the length-controlled win rate.
    pub length_control: LengthControl,
    /// Judge so many published comparisons anew and report the agreement.
    pub calibrate: Option<u64>,
    /// Seed of order swaps and samples.
    pub seed: u64,
    /// Number format of a local judge.
    pub precision: Precision,
    /// Where a local judge runs.
    pub device: Device,
}

/// A measure of one answer, against its references where it needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Longest common subsequence, F-measure.
    #[serde(rename = "rouge_l")]
    RougeL,
    /// Overlap of n-grams up to four words.
    #[serde(rename = "bleu_4")]
    Bleu4,
    /// Equal texts after normalisation.
    ExactMatch,
    /// Characters and words.
    Length,
    /// Share of repeated 2-grams.
    Repetition,
    /// Diversity of n-grams.
    LogDiversity,
}

/// An OpenAI-compatible service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Address up to, and without, `/chat/completions`.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Name of the model there.
    pub model: String,
    /// Environment variable that holds the key.
    #[serde(default)]
    pub key_env: Option<String>,
    /// Dollars per million tokens: `input` and `output`.
    #[serde(default)]
    pub prices: Option<IndexMap<String, f64>>,
    /// Command that starts a local server; `{port}` is filled in.
    #[serde(default)]
    pub serve: Option<String>,
}

/// Options of the length-controlled win rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LengthControl {
    /// Inverse strength of the L1 penalty; 2.7826 is what the public fit chooses for most models.
    #[serde(rename = "C")]
    pub c: f64,
}

impl Default for LengthControl {
    fn default() -> Self {
        Self { c: 2.7826 }
    }
}

impl Default for JudgeParams {
    fn default() -> Self {
        Self {
            annotator: None,
            metrics: vec![Measure::RougeL, Measure::Length, Measure::Repetition],
            endpoint: None,
            max_cost_usd: None,
            concurrency: 4,
            length_control: LengthControl::default(),
            calibrate: None,
            seed: 0,
            precision: Precision::F32,
            device: Device::Auto,
        }
    }
}

impl StageParams for JudgeParams {
    const KIND: Kind = Kind::Judge;
    const NOT_IN_KEY: &'static [&'static str] =
        &["concurrency", "device", "max_cost_usd", "endpoint.key_env", "endpoint.prices", "endpoint.serve"];

    /// Without an annotator nothing is compared; a local one asks both orders and draws nothing.
    fn prune(&self, value: &mut Value) {
        if self.annotator.is_none() {
            ["endpoint", "calibrate", "precision", "seed"].iter().for_each(|path| super::remove(value, path));
        }
        if self.annotator.as_deref() == Some("local") {
            ["endpoint", "seed"].iter().for_each(|path| super::remove(value, path));
        }
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.concurrency == 0 {
            problems.push(("concurrency", "0 requests at a time never end".to_owned()));
        }
        if self.annotator.is_none() && self.metrics.is_empty() {
            problems.push(("metrics", "neither an annotator nor a measure is left to do".to_owned()));
        }
        problems
    }
}
