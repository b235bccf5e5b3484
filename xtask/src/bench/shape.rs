//! What a Llama's `config.json` says that its products cost.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

/// The products of a token: inputs and outputs of each.
pub struct Shape {
    /// Those of one block, the joined ones together: q, k and v; o; gate and up; down.
    block: [(u64, u64); 4],
    layers: u64,
    head: (u64, u64),
}

impl Shape {
    /// Reads a model folder.
    pub fn of(model: &Path) -> io::Result<Self> {
        let config: Value = serde_json::from_slice(&fs::read(model.join("config.json"))?)?;
        let number = |name: &str| config[name].as_u64();
        let missing = |name: &str| io::Error::other(format!("config.json does not say `{name}`"));
        let needed = |name| number(name).ok_or_else(|| missing(name));
        let (hidden, wide, heads) =
            (needed("hidden_size")?, needed("intermediate_size")?, needed("num_attention_heads")?);
        let dim = number("head_dim").unwrap_or(hidden / heads);
        let (queries, keys) = (heads * dim, number("num_key_value_heads").unwrap_or(heads) * dim);
        let block = [(hidden, queries + 2 * keys), (queries, hidden), (hidden, 2 * wide), (wide, hidden)];
        Ok(Self { block, layers: needed("num_hidden_layers")?, head: (hidden, needed("vocab_size")?) })
    }

    /// Weights of all blocks' products.
    pub fn block_weights(&self) -> f64 {
        self.block.iter().map(|(inputs, outputs)| inputs * outputs).sum::<u64>() as f64 * self.layers as f64
    }

    /// Weights of the head.
    pub fn head_weights(&self) -> f64 {
        (self.head.0 * self.head.1) as f64
    }

    /// The products of a step as [rows, inputs, outputs]: forward and, for training, back to the input. Of a head there
    /// are more rows or fewer.
    pub fn products(&self, tokens: u64, head_tokens: u64, back: bool) -> Vec<[u64; 3]> {
        let blocks = self.block.iter().map(|&(inputs, outputs)| [tokens, inputs, outputs]);
        let forward: Vec<[u64; 3]> = blocks.chain([[head_tokens, self.head.0, self.head.1]]).collect();
        let backward = forward.iter().filter(|_| back).map(|&[rows, inputs, outputs]| [rows, outputs, inputs]);
        forward.iter().copied().chain(backward).collect()
    }
}
