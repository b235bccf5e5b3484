//! `generate`: answer prompts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::shared::DEFAULT_DATE;
use super::{Device, Precision, StageParams, Template};
use crate::Kind;

/// Parameters of `generate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateParams {
    /// How a prompt is rendered: by default as the adapter was trained, else by the model's chat template, else `none`.
    pub template: Option<Template>,
    /// Longest answer in tokens.
    pub max_new_tokens: u64,
    /// 0 is greedy; else logits are divided by it before sampling.
    pub temperature: f64,
    /// Sample from the smallest set of tokens whose probability reaches this.
    pub top_p: f64,
    /// Sample from so many most probable tokens; 0 is all.
    pub top_k: u64,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or answer.
    pub repetition_penalty: f64,
    /// Seed of sampling; each row has its own stream.
    pub seed: u64,
    /// Number format.
    pub precision: Precision,
    /// Where it runs.
    pub device: Device,
    /// Rows are batched up to so many tokens of cache.
    pub batch_tokens: u64,
    /// Name of the answerer in the answers; by default the model's name and the adapter's digest.
    pub generator: Option<String>,
    /// The date that a chat template is given; by default as the adapter was trained.
    pub date_string: Option<String>,
}

impl Default for GenerateParams {
    fn default() -> Self {
        Self {
            template: None,
            max_new_tokens: 256,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            repetition_penalty: 1.0,
            seed: 0,
            precision: Precision::F32,
            device: Device::Auto,
            batch_tokens: 8192,
            generator: None,
            date_string: None,
        }
    }
}

impl GenerateParams {
    /// The pinned date where neither the parameters nor the adapter have one.
    pub const DEFAULT_DATE: &'static str = DEFAULT_DATE;
}

/// Below this logits divided by the temperature leave what an f32 holds, and all but the most probable token have long
/// lost any chance.
const COLDEST: f64 = 1e-30;

/// Whether the most probable token is taken at this temperature, and nothing is drawn.
pub fn is_greedy(temperature: f64) -> bool {
    temperature < COLDEST
}

impl StageParams for GenerateParams {
    const KIND: Kind = Kind::Generate;
    const NOT_IN_KEY: &'static [&'static str] = &["device", "batch_tokens"];

    /// Greedy decoding draws nothing.
    fn prune(&self, value: &mut Value) {
        if is_greedy(self.temperature) {
            ["seed", "top_p", "top_k"].iter().for_each(|path| super::remove(value, path));
        }
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.max_new_tokens == 0 {
            problems.push(("max_new_tokens", "0 tokens are no answer".to_owned()));
        }
        if self.temperature < 0.0 || !self.temperature.is_finite() {
            problems.push(("temperature", format!("{} is not a number from 0 up", self.temperature)));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            problems.push(("top_p", format!("{} is not above 0 and at most 1", self.top_p)));
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            problems.push(("repetition_penalty", format!("{} is not above 0", self.repetition_penalty)));
        }
        if self.batch_tokens == 0 {
            problems.push(("batch_tokens", "0 tokens hold no row".to_owned()));
        }
        problems
    }
}
