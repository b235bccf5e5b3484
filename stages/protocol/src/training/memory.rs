//! How much memory training takes, by arithmetic: so that it can be told before anything is loaded.
//!
//! Weights, what is trained with its gradient and two moments, what the backward pass keeps of each token, what is at work at a
//! time (logits at supervised places, or one block), and libtorch itself. What is kept was fitted to measured runs; see the test. The
//! mapped file of the base counts in `peak_memory_bytes` and not here: its pages can be given back at any time.

use serde::Deserialize;

use crate::params::Precision;
use crate::params::train::{Lora, SparsityScope, TrainParams};

/// What libtorch and the program hold by themselves.
const LIBTORCH_BYTES: u64 = 200 << 20;
/// Logits held at a time; their gradient takes their place.
const LOGITS: u64 = 16 << 20;
/// A number of the residual stream, which is in f32 whatever the weights' format.
const STREAM_BYTES: u64 = 4;
/// A trained number: itself, its gradient, and AdamW's two moments, in f32. In bf16 a fully trained number and its gradient are
/// half as large, with a copy in f32 beside them.
const TRAINED_BYTES: u64 = 16;
/// An entry under a mask of the product: the bits of the mask, the masked weight, and now and then its dense gradient.
const MASKED_BYTES: u64 = 10;

/// The sizes in the `config.json` of a Llama.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ModelShape {
    vocab_size: u64,
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

/// How long the rows of one pass are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowLengths {
    /// The longest, tokens.
    pub longest: u64,
    /// The mean, tokens.
    pub mean: f64,
}

impl ModelShape {
    /// Weights of the model.
    pub fn parameters(&self) -> u64 {
        let Self { vocab_size, hidden_size: hidden, num_hidden_layers: layers, .. } = *self;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        let projections = self.projections();
        let biases = |from: usize, to: usize| projections[from..to].iter().map(|(_, outputs)| outputs).sum::<u64>();
        let weights: u64 = projections.iter().map(|(inputs, outputs)| inputs * outputs).sum();
        let attention = if self.attention_bias { biases(0, 4) } else { 0 };
        let mlp = if self.mlp_bias { biases(4, 7) } else { 0 };
        tables * vocab_size * hidden + layers * (weights + attention + mlp + 2 * hidden) + hidden
    }

    /// Bytes that training takes at its peak, the passes holding rows of these lengths.
    pub fn training_bytes(&self, params: &TrainParams, rows: RowLengths) -> u64 {
        let number = match params.precision {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        };
        let trained = if params.full { self.parameters() } else { self.adapter_parameters(&params.lora) };
        let base = if params.full { 0 } else { self.parameters() * number };
        let best = if params.early_stopping.is_some() { trained.saturating_mul(4) } else { 0 };
        let tokens = self.pass_tokens(params, rows);
        let kept = self.kept_bytes_per_token(params.activation_checkpointing, number).saturating_mul(tokens);
        let at_work = (LOGITS * number).max(self.block_bytes(params.precision, number, tokens));
        let parts = [at_work, base, TRAINED_BYTES.saturating_mul(trained), best, kept, self.mask_bytes(params)];
        parts.into_iter().fold(LIBTORCH_BYTES, u64::saturating_add)
    }

    /// Inputs and outputs of a block's seven projections, in their order there.
    fn projections(&self) -> [(u64, u64); 7] {
        let (hidden, wide) = (self.hidden_size, self.intermediate_size);
        let head = self.head_dim.unwrap_or(hidden / self.num_attention_heads.max(1));
        let queries = self.num_attention_heads * head;
        let keys = self.num_key_value_heads.unwrap_or(self.num_attention_heads) * head;
        [
            (hidden, queries),
            (hidden, keys),
            (hidden, keys),
            (queries, hidden),
            (hidden, wide),
            (hidden, wide),
            (wide, hidden),
        ]
    }

    fn adapted<'a>(&self, lora: &'a Lora) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let named = Lora::ALL_TARGETS.into_iter().zip(self.projections());
        named.filter(|(name, _)| lora.targets.iter().any(|target| target == name)).map(|(_, sizes)| sizes)
    }

    fn adapter_parameters(&self, lora: &Lora) -> u64 {
        let sides: u64 = self.adapted(lora).map(|(inputs, outputs)| inputs + outputs).sum();
        (self.num_hidden_layers * sides).saturating_mul(lora.rank)
    }

    fn mask_bytes(&self, params: &TrainParams) -> u64 {
        let entries = |lora| self.num_hidden_layers * self.adapted(lora).map(|(i, o)| i * o).sum::<u64>();
        match params.sparsity.as_ref().map(|sparsity| sparsity.scope) {
            Some(SparsityScope::Delta | SparsityScope::BasePlusLora) => MASKED_BYTES * entries(&params.lora),
            Some(SparsityScope::LoraFactors) => self.adapter_parameters(&params.lora),
            Some(SparsityScope::Full) => self.parameters(),
            None => 0,
        }
    }

    /// What the backward pass keeps of a token; of blocks that are computed again only their inputs, but one block.
    fn kept_bytes_per_token(&self, recompute: bool, number: u64) -> u64 {
        let [(hidden, queries), (_, keys), .., (wide, _)] = self.projections();
        // Inputs of the halves; rotated heads and mixed values, gate and up. One more width of the former and two of the latter
        // were fitted to measured runs.
        let block = 3 * hidden * STREAM_BYTES + (2 * hidden + 2 * queries + 2 * keys + 2 * wide) * number;
        let layers = self.num_hidden_layers;
        if recompute { layers * hidden * STREAM_BYTES + block } else { layers * block }
    }

    /// What the backward pass of one block works with: gradients of gate and up, both at the inner width again, a few
    /// of the residual stream's; in f32 libtorch also orders the joined weight anew for each product.
    fn block_bytes(&self, precision: Precision, number: u64, tokens: u64) -> u64 {
        let [(hidden, _), .., (wide, _)] = self.projections();
        let ordered = if precision == Precision::F32 { 2 * wide * hidden * number } else { 0 };
        (4 * wide + 3 * hidden).saturating_mul(number).saturating_mul(tokens).saturating_add(ordered)
    }

    /// Tokens of the largest pass: one row of the greatest length among others of the mean.
    fn pass_tokens(&self, params: &TrainParams, rows: RowLengths) -> u64 {
        let count = params.batch.micro.unwrap_or(params.batch.size).min(params.batch.size).max(1);
        let tokens = rows.longest.saturating_add(((count - 1) as f64 * rows.mean).ceil() as u64);
        let signs =
            if params.neft.noise == crate::params::train::Noise::Symmetric && params.neft.alpha > 0.0 { 2 } else { 1 };
        let most = params.batch.max_tokens.map_or(u64::MAX, |tokens| tokens.max(rows.longest));
        tokens.saturating_mul(signs).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn llama(hidden: u64, layers: u64, heads: u64) -> ModelShape {
        serde_json::from_value(json!({"vocab_size": 128_256, "hidden_size": hidden, "intermediate_size": 8192,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": 8,
            "head_dim": if hidden == 2048 { 64 } else { 128 }, "tie_word_embeddings": true}))
        .unwrap()
    }

    fn gib(shape: &ModelShape, params: Value) -> f64 {
        let params: TrainParams = serde_json::from_value(params).unwrap();
        shape.training_bytes(&params, RowLengths { longest: 512, mean: 300.0 }) as f64 / f64::from(1 << 30)
    }

    #[test]
    fn parameters_are_those_of_llama_3_2() {
        assert_eq!(llama(2048, 16, 32).parameters(), 1_235_814_400);
        assert_eq!(llama(3072, 28, 24).parameters(), 3_212_749_824);
    }

    /// Peaks of processes that trained random weights with rank 16 (the question `Try`): SmolLM2-135M over one row of 128 and
    /// seven of 54 tokens, Llama 3.2 1B and 3B over passes of four rows of 512 (3B in f32: of one).
    #[test]
    fn it_is_what_was_measured_closely() {
        let small: ModelShape = serde_json::from_value(json!({"vocab_size": 49_152, "hidden_size": 576,
            "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
            "tie_word_embeddings": true}))
        .unwrap();
        assert_eq!(small.parameters(), 134_515_008);
        let params: TrainParams = serde_json::from_value(json!({"lora": {"rank": 16}})).unwrap();
        assert_eq!(small.adapter_parameters(&params.lora), 4_884_480, "as the run reported");
        let (mixed, even) = (RowLengths { longest: 128, mean: 54.0 }, RowLengths { longest: 512, mean: 512.0 });
        let (one, three) = (llama(2048, 16, 32), llama(3072, 28, 24));
        for (shape, rows, precision, micro, measured) in [
            (&small, mixed, "f32", 8, 1.377e9),
            (&small, mixed, "bf16", 8, 0.835e9),
            (&one, even, "f32", 4, 10.357e9),
            (&one, even, "bf16", 4, 5.513e9),
            (&three, even, "bf16", 4, 13.184e9),
            (&three, even, "f32", 1, 15.747e9),
        ] {
            let params = json!({"batch": {"size": 8, "micro": micro}, "lora": {"rank": 16}, "precision": precision});
            let told = shape.training_bytes(&serde_json::from_value(params).unwrap(), rows) as f64;
            assert!((told / measured - 1.0).abs() < 0.06, "{precision}: {told}, {measured} was measured");
        }
    }

    #[test]
    fn every_choice_moves_it_as_it_should() {
        let (one, three) = (llama(2048, 16, 32), llama(3072, 28, 24));
        let lora = json!({"batch": {"size": 8}});
        let bf16 = json!({"batch": {"size": 8}, "precision": "bf16"});
        let lean = json!({"batch": {"size": 8}, "activation_checkpointing": true});
        let micro = json!({"batch": {"size": 8, "micro": 1}});
        let full = json!({"batch": {"size": 8}, "full": true});
        let weights = |shape: &ModelShape| shape.parameters() as f64 * 4.0 / f64::from(1 << 30);
        for shape in [&one, &three] {
            assert!(gib(shape, lora.clone()) > weights(shape));
            assert!(gib(shape, bf16.clone()) < 0.6 * gib(shape, lora.clone()));
            assert!(gib(shape, lean.clone()) < gib(shape, lora.clone()) - 1.0);
            assert!(gib(shape, micro.clone()) < gib(shape, lora.clone()) - 1.0);
            assert!(gib(shape, full.clone()) > 4.0 * weights(shape));
        }
        assert!(gib(&three, lora) < 25.0 && gib(&three, full) > 47.0);
        let sparse = json!({"batch": {"size": 8}, "sparsity": {"scope": "delta", "target": 0.5}});
        assert!(gib(&one, sparse) > gib(&one, json!({"batch": {"size": 8}})) + 9.0);
    }
}
