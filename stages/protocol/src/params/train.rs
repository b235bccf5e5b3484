//! `train`: fine-tune a model, with noise on its embeddings if asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod sparsity;

pub use sparsity::{Allocation, Drop, Granularity, Grow, Ramp, Sparsity, SparsityScope};

use super::{Device, Precision, StageParams};
use crate::Kind;

/// Parameters of `train`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainParams {
    /// Optimizer steps; else `epochs` says.
    pub steps: Option<u64>,
    /// Passes over the training rows, where `steps` is not said; 3 by default.
    pub epochs: Option<f64>,
    /// Rows at a time.
    pub batch: Batch,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// How the learning rate moves after warm-up.
    pub schedule: LearningRateSchedule,
    /// Linear warm-up: a fraction of the steps below 1, else steps.
    pub warmup: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay of AdamW's two moments.
    pub betas: [f64; 2],
    /// AdamW's epsilon.
    pub eps: f64,
    /// Largest global norm of the gradient; 0 does not clip.
    pub clip: f64,
    /// Number format of weights and products. What is trained is kept in f32 in any case. An adapter is written so; a model under
    /// `full` is written in the format that it computed in.
    pub precision: Precision,
    /// Where it runs.
    pub device: Device,
    /// Equal bytes from run to run on one device.
    pub deterministic: bool,
    /// Seed of adapter start, row order, noise and dropout.
    pub seed: u64,
    /// Draw the rows of each epoch in a new order; else in file order.
    pub shuffle: bool,
    /// Fill passes up to `batch.max_tokens` with whatever rows fit, so that a step takes fewer. It changes nothing else:
    /// rows lie one after the other without padding anyway, each with its own attention, positions and noise.
    pub packing: bool,
    /// Batches of rows of like length: less padding where `neft.length` is `padded`, passes of like size.
    pub group_by_length: bool,
    /// Recompute activations in the backward pass to save memory.
    pub activation_checkpointing: bool,
    /// The low-rank adapter.
    pub lora: Lora,
    /// Train all weights instead of an adapter.
    pub full: bool,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between evaluations on held-out rows; none where not said.
    pub eval_every: Option<u64>,
    /// Stop when the held-out loss no longer falls, and leave the weights of the best evaluation. Needs `eval_every`.
    pub early_stopping: Option<EarlyStopping>,
    /// Noise on the embeddings.
    pub neft: Neft,
    /// Sparse-NEFT: a sparse update or model.
    pub sparsity: Option<Sparsity>,
}

/// Rows at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batch {
    /// Rows an optimizer step.
    pub size: u64,
    /// Rows in one forward pass; the whole batch where not said.
    pub micro: Option<u64>,
    /// Most tokens in one forward pass.
    pub max_tokens: Option<u64>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { size: 8, micro: None, max_tokens: None }
    }
}

/// How the learning rate moves after warm-up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LearningRateSchedule {
    /// Stays.
    Constant,
    /// Half a cosine down to 0.
    #[default]
    Cosine,
    /// A line down to 0.
    Linear,
    /// Flat, then a line down to 0 over the last fraction.
    Wsd {
        /// The last fraction of the steps.
        decay: f64,
    },
}

/// The low-rank adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lora {
    /// Rank of the update.
    pub rank: u64,
    /// The update is scaled by alpha/rank; twice the rank where not said.
    pub alpha: Option<f64>,
    /// Dropout before the adapter.
    pub dropout: f64,
    /// Projections that have an adapter.
    pub targets: Vec<String>,
    /// Scale by alpha/√rank.
    pub rslora: bool,
}

impl Lora {
    /// The seven linear layers of a Llama block.
    pub const ALL_TARGETS: [&'static str; 7] =
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

    /// `lora_alpha` as PEFT names it.
    pub fn effective_alpha(&self) -> f64 {
        self.alpha.unwrap_or(2.0 * self.rank as f64)
    }

    /// What the product BA is multiplied by.
    pub fn scaling(&self) -> f64 {
        let rank = self.rank as f64;
        self.effective_alpha() / if self.rslora { rank.sqrt() } else { rank }
    }
}

impl Default for Lora {
    fn default() -> Self {
        let targets = Self::ALL_TARGETS.iter().map(|&name| name.to_owned()).collect();
        Self { rank: 16, alpha: None, dropout: 0.0, targets, rslora: false }
    }
}

/// When to stop early.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Evaluations without a fall before it stops.
    pub patience: u64,
    /// The least fall that counts.
    #[serde(default)]
    pub min_delta: f64,
}

/// Noise on the embeddings (NEFTune, arXiv 2310.05914): emb(X) + alpha/√(L·d) · eps.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Neft {
    /// Strength; 0 is plain fine-tuning.
    pub alpha: f64,
    /// The distribution of eps.
    pub noise: Noise,
    /// What L is.
    pub length: NoiseLength,
    /// How alpha moves over training.
    pub schedule: AlphaSchedule,
    /// Fraction of training over which alpha rises from 0, ahead of the schedule.
    pub warmup: f64,
    /// Rescale the schedule so that the mean of alpha² is that of this constant alpha.
    pub match_energy: Option<f64>,
}

/// The distribution of the noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Noise {
    /// Uniform in (−1, 1), as in NEFTune.
    #[default]
    Uniform,
    /// Standard normal: sigma is the magnitude.
    Gaussian,
    /// Normal with the norm of the uniform: sigma is the magnitude/√3.
    GaussianMatched,
    /// −1 or 1.
    Bernoulli,
    /// SymNoise (arXiv 2312.01523): both x + e and x − e with e of `bernoulli`; twice the compute.
    Symmetric,
}

/// What the L of the noise's magnitude is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoiseLength {
    /// The row's own length; padding is not noised (the authors' code).
    #[default]
    Actual,
    /// The padded length of the batch; padding is noised (transformers).
    Padded,
}

/// How alpha moves over training; p runs from 0 to 1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlphaSchedule {
    /// Stays.
    #[default]
    Constant,
    /// A line.
    Linear {
        /// Alpha at the end.
        to: f64,
    },
    /// Half a cosine.
    Cosine {
        /// Alpha at the end.
        to: f64,
    },
    /// Multiplied at each of these fractions of training.
    Step {
        /// Fractions of training.
        at: Vec<f64>,
        /// The factor.
        factor: f64,
    },
    /// Geometric.
    Exponential {
        /// Alpha at the end, above 0.
        to: f64,
    },
}

impl Default for TrainParams {
    fn default() -> Self {
        Self {
            steps: None,
            epochs: None,
            batch: Batch::default(),
            learning_rate: 2e-4,
            schedule: LearningRateSchedule::default(),
            warmup: 0.03,
            weight_decay: 0.0,
            betas: [0.9, 0.999],
            eps: 1e-8,
            clip: 1.0,
            precision: Precision::F32,
            device: Device::Auto,
            deterministic: true,
            seed: 0,
            shuffle: true,
            packing: false,
            group_by_length: false,
            activation_checkpointing: false,
            lora: Lora::default(),
            full: false,
            checkpoint_every: 25,
            eval_every: None,
            early_stopping: None,
            neft: Neft::default(),
            sparsity: None,
        }
    }
}

impl TrainParams {
    /// Passes over the rows where nothing is said.
    pub const DEFAULT_EPOCHS: f64 = 3.0;
}

impl StageParams for TrainParams {
    const KIND: Kind = Kind::Train;
    const JOINT: &'static [(&'static str, &'static [&'static str])] = &[
        ("epochs", &["steps"]),
        ("early_stopping", &["eval_every"]),
        ("lora.targets", &["full"]),
        ("lora.dropout", &["sparsity.scope"]),
        ("lora.rank", &["sparsity.scope", "sparsity.granularity"]),
        ("sparsity.initial", &["sparsity.target"]),
        ("sparsity.start", &["sparsity.end"]),
        ("sparsity.end", &["sparsity.start"]),
        ("sparsity.scope", &["full"]),
        ("sparsity.granularity", &["sparsity.target", "sparsity.ramp"]),
        ("sparsity.allocation", &["sparsity.granularity"]),
    ];
    const NOT_IN_KEY: &'static [&'static str] =
        &["device", "checkpoint_every", "batch.micro", "batch.max_tokens", "packing", "activation_checkpointing"];

    fn prune(&self, value: &mut Value) {
        if self.neft.alpha == 0.0 {
            super::remove(value, "neft");
        }
        if self.sparsity.as_ref().is_some_and(|it| it.target == 0.0 && it.initial == 0.0) {
            value["sparsity"] = Value::Null;
        }
        if let Some(sparsity) = &self.sparsity {
            sparsity.prune(value);
        }
        if self.full {
            super::remove(value, "lora");
        }
        if self.lora.alpha == Some(2.0 * self.lora.rank as f64) {
            super::remove(value, "lora.alpha");
        }
        if self.epochs == Some(Self::DEFAULT_EPOCHS) {
            super::remove(value, "epochs");
        }
        if let Some(targets) = value.pointer_mut("/lora/targets").and_then(Value::as_array_mut) {
            let place = |name: &Value| Lora::ALL_TARGETS.iter().position(|&known| name == known);
            targets.sort_by_key(place);
        }
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |ok: bool, path, message: String| {
            if !ok {
                problems.push((path, message));
            }
        };
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let fraction = |value: f64| (0.0..=1.0).contains(&value);
        check(
            !(self.steps.is_some() && self.epochs.is_some()),
            "epochs",
            "`steps` and `epochs` are both said: say one".to_owned(),
        );
        check(self.steps != Some(0), "steps", "0 steps train nothing".to_owned());
        check(self.epochs.is_none_or(positive), "epochs", "epochs are a number above 0".to_owned());
        check(self.batch.size > 0, "batch.size", "a batch has at least one row".to_owned());
        check(
            self.batch.micro.is_none_or(|rows| rows > 0),
            "batch.micro",
            "a micro-batch has at least one row".to_owned(),
        );
        check(
            self.batch.max_tokens.is_none_or(|tokens| tokens > 0),
            "batch.max_tokens",
            "a micro-batch has at least one token".to_owned(),
        );
        check(positive(self.learning_rate), "learning_rate", format!("{} is not a number above 0", self.learning_rate));
        check(
            self.warmup >= 0.0 && self.warmup.is_finite(),
            "warmup",
            format!("{} is not a number from 0 up", self.warmup),
        );
        check(
            self.betas.iter().all(|beta| (0.0..1.0).contains(beta)),
            "betas",
            "each is from 0 up to, but without, 1".to_owned(),
        );
        check(positive(self.eps), "eps", format!("{} is not a number above 0", self.eps));
        check(self.clip >= 0.0, "clip", format!("{} is below 0", self.clip));
        check(self.weight_decay >= 0.0, "weight_decay", format!("{} is below 0", self.weight_decay));
        check(self.checkpoint_every > 0, "checkpoint_every", "checkpoints are at least one step apart".to_owned());
        check(self.eval_every != Some(0), "eval_every", "evaluations are at least one step apart".to_owned());
        if let Some(stopping) = &self.early_stopping {
            let message = "goes by held-out losses: say `eval_every` too, the steps between evaluations";
            check(self.eval_every.is_some(), "early_stopping", message.to_owned());
            check(stopping.patience > 0, "early_stopping.patience", "is at least one evaluation".to_owned());
            let least = stopping.min_delta;
            check(
                least >= 0.0 && least.is_finite(),
                "early_stopping.min_delta",
                format!("{least} is not a number from 0 up"),
            );
        }
        check(self.lora.rank > 0, "lora.rank", "an adapter has at least rank 1".to_owned());
        check(
            (0.0..1.0).contains(&self.lora.dropout),
            "lora.dropout",
            format!("{} is not a fraction below 1", self.lora.dropout),
        );
        check(self.full || !self.lora.targets.is_empty(), "lora.targets", "no projection is left to train".to_owned());
        for target in &self.lora.targets {
            let known = Lora::ALL_TARGETS.contains(&target.as_str());
            check(known, "lora.targets", format!("`{target}` is no projection: {}", Lora::ALL_TARGETS.join(", ")));
        }
        check(
            self.neft.alpha >= 0.0 && self.neft.alpha.is_finite(),
            "neft.alpha",
            format!("{} is not a number from 0 up", self.neft.alpha),
        );
        check(fraction(self.neft.warmup), "neft.warmup", format!("{} is not a fraction of training", self.neft.warmup));
        check(self.neft.match_energy.is_none_or(positive), "neft.match_energy", "is a number above 0".to_owned());
        match &self.neft.schedule {
            AlphaSchedule::Step { at, factor } => {
                check(at.iter().all(|&p| fraction(p)), "neft.schedule", "`at` holds fractions of training".to_owned());
                check(*factor >= 0.0 && factor.is_finite(), "neft.schedule", format!("the factor {factor} is below 0"));
            }
            AlphaSchedule::Exponential { to } => {
                check(positive(*to), "neft.schedule", "an exponential schedule ends above 0".to_owned())
            }
            AlphaSchedule::Linear { to } | AlphaSchedule::Cosine { to } => {
                check(*to >= 0.0 && to.is_finite(), "neft.schedule", format!("{to} is not a number from 0 up"));
            }
            AlphaSchedule::Constant => {}
        }
        if let LearningRateSchedule::Wsd { decay } = self.schedule {
            check(fraction(decay), "schedule", format!("{decay} is not a fraction of training"));
        }
        if let Some(sparsity) = &self.sparsity {
            sparsity.check(self, &mut check);
        }
        problems
    }
}
