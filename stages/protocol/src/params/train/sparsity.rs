//! Sparsity of a `train` stage: what its masks cover, and when and how they change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TrainParams;

/// Dynamic weight sparsity beside the noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sparsity {
    /// What is masked.
    pub scope: SparsityScope,
    /// Fraction of zeros at the end of the ramp.
    pub target: f64,
    /// Fraction of zeros at the start.
    #[serde(default)]
    pub initial: f64,
    /// How sparsity grows.
    #[serde(default)]
    pub ramp: Ramp,
    /// Fraction of training at which it starts.
    #[serde(default)]
    pub start: f64,
    /// Fraction of training after which the mask is frozen.
    #[serde(default = "three_quarters")]
    pub end: f64,
    /// Optimizer steps between updates of the mask.
    #[serde(default = "every_ten")]
    pub every: u64,
    /// Fraction of active entries exchanged at an update, annealed to 0.
    #[serde(default = "three_tenths")]
    pub exchange: f64,
    /// What is dropped.
    #[serde(default)]
    pub drop: Drop,
    /// What grows.
    #[serde(default)]
    pub grow: Grow,
    /// How zeros are shared out over layers.
    #[serde(default)]
    pub allocation: Allocation,
    /// The unit of the mask.
    #[serde(default)]
    pub granularity: Granularity,
    /// Of growth at random; that of training where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Sparsity {
    /// Takes out of the key's form what has no effect given the rest. Masks that exchange nothing and do not grow sparser are
    /// made once.
    pub(super) fn prune(&self, value: &mut Value) {
        let stays = self.grow == Grow::None || self.exchange == 0.0;
        let mut without_effect = Vec::new();
        if self.ramp == Ramp::None {
            without_effect.push("sparsity.initial");
            if stays {
                without_effect.extend(["sparsity.every", "sparsity.end"]);
            }
        }
        if stays {
            without_effect.push("sparsity.exchange");
            if let Some(grow) = value.pointer_mut("/sparsity/grow") {
                *grow = serde_json::to_value(Grow::None).expect("a name serialises");
            }
        }
        if stays || self.grow != Grow::Random {
            without_effect.push("sparsity.seed");
        }
        without_effect.iter().for_each(|path| crate::params::remove(value, path));
    }

    /// What is wrong with it, for the training that it is part of.
    pub(super) fn check(&self, train: &TrainParams, check: &mut dyn FnMut(bool, &'static str, String)) {
        let fraction = |value: f64| (0.0..=1.0).contains(&value);
        check(
            (0.0..1.0).contains(&self.target),
            "sparsity.target",
            format!("{} is not a fraction below 1", self.target),
        );
        check(
            (0.0..1.0).contains(&self.initial),
            "sparsity.initial",
            format!("{} is not a fraction below 1", self.initial),
        );
        for (path, value) in [("sparsity.start", self.start), ("sparsity.end", self.end)] {
            check(fraction(value), path, format!("{value} is not a fraction of training"));
        }
        check(
            !(0.0..1.0).contains(&self.target) || self.initial <= self.target,
            "sparsity.initial",
            format!("{} is above the target {}: masks only get sparser", self.initial, self.target),
        );
        let (start, end) = (self.start, self.end);
        check(
            start <= end || !fraction(start) || !fraction(end),
            "sparsity.end",
            format!("{end} is before `sparsity.start`, {start}"),
        );
        let of_all_weights = self.scope == SparsityScope::Full;
        check(
            of_all_weights == train.full,
            "sparsity.scope",
            if train.full {
                "`full: true` trains all weights; the scope for that is `full`".to_owned()
            } else {
                "`full` is for `full: true`; an adapter has `delta`, `lora_factors` or `base_plus_lora`".to_owned()
            },
        );
        check(
            self.scope != SparsityScope::BasePlusLora || train.lora.dropout == 0.0,
            "lora.dropout",
            "has no meaning where the adapter's product is masked together with the weight".to_owned(),
        );
        if self.granularity == Granularity::TwoOfFour {
            let plain = self.target == 0.5 && self.ramp == Ramp::None;
            let message = "2:4 keeps two of every four: `target` is 0.5, without a ramp".to_owned();
            check(plain, "sparsity.granularity", message);
            let rank = train.lora.rank;
            let divides = self.scope != SparsityScope::LoraFactors || rank.is_multiple_of(4);
            let message =
                format!("2:4 does not go into the {rank} columns of B: 4 divides the rank, or mask by `element`");
            check(divides, "lora.rank", message);
            let uniform = self.allocation == Allocation::Uniform;
            check(uniform, "sparsity.allocation", "2:4 keeps two of every four in every layer".to_owned());
        }
        check(self.every > 0, "sparsity.every", "updates are at least one step apart".to_owned());
        check(fraction(self.exchange), "sparsity.exchange", format!("{} is not a fraction", self.exchange));
    }
}

fn three_quarters() -> f64 {
    0.75
}
fn three_tenths() -> f64 {
    0.3
}
fn every_ten() -> u64 {
    10
}

/// What a sparsity mask covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SparsityScope {
    /// The factors A and B: cheap; the product is not sparse.
    LoraFactors,
    /// The update: W = W0 + m∘(sBA). The model stays dense.
    Delta,
    /// The whole weight: W = m∘(W0 + sBA).
    BasePlusLora,
    /// The weights of full fine-tuning.
    Full,
}

/// How sparsity grows from `initial` to `target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ramp {
    /// At once.
    #[default]
    None,
    /// A line.
    Linear,
    /// Zhu & Gupta (arXiv 1710.01878).
    Cubic,
}

/// Score by which active entries are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Drop {
    /// Smallest magnitude.
    #[default]
    Magnitude,
    /// Smallest magnitude times norm of what it multiplies, over the tokens of the step (Wanda, arXiv 2306.11695).
    Wanda,
}

/// How inactive entries grow back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grow {
    /// Largest gradient (RigL, arXiv 1911.11134).
    #[default]
    Gradient,
    /// At random (SET).
    Random,
    /// Not.
    None,
}

/// How zeros are shared out over layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Allocation {
    /// The same fraction everywhere.
    #[default]
    Uniform,
    /// Erdős–Rényi kernel: more where layers are small.
    Erk,
    /// One ranking over all layers.
    Global,
}

/// The unit of a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Granularity {
    /// Single entries.
    #[default]
    #[serde(rename = "element")]
    Element,
    /// Two of every four.
    #[serde(rename = "2:4")]
    TwoOfFour,
    /// Whole rows.
    #[serde(rename = "row")]
    Row,
}
