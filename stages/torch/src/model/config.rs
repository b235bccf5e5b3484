//! `config.json` of a Llama: the older spelling (`rope_theta`, `rope_scaling`, `torch_dtype`) and that of
//! transformers 5 (`rope_parameters`, `dtype`). What cannot be computed faithfully is refused by name.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::ModelError;

/// The shape of a Llama, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// The model's own name, where it says one that is no path.
    pub name: Option<String>,
    /// Tokens of the vocabulary, V.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width inside the feed-forward part.
    pub intermediate_size: i64,
    /// Blocks.
    pub layers: usize,
    /// Query heads, H.
    pub heads: i64,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: i64,
    /// Width of a head, D.
    pub head_dim: i64,
    /// Epsilon of the root-mean-square norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// The model's window, tokens.
    pub max_position_embeddings: u64,
    /// The head's weight is that of the embedding.
    pub tied: bool,
    /// q, k, v and o have biases.
    pub attention_bias: bool,
    /// gate, up and down have biases.
    pub mlp_bias: bool,
    /// Tokens that end an answer, as `config.json` says them.
    pub eos_token_ids: Vec<u32>,
}

/// How rotary frequencies are stretched.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not.
    None,
    /// All divided.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: low frequencies divided, high ones kept, those between blended.
    Llama3 {
        /// The divisor.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low_frequency_factor: f64,
        /// Wavelengths below `original / high` are kept.
        high_frequency_factor: f64,
        /// The window before stretching, tokens.
        original_window_tokens: f64,
    },
}

#[derive(Deserialize)]
struct Raw {
    model_type: String,
    #[serde(rename = "_name_or_path")]
    name_or_path: Option<String>,
    vocab_size: i64,
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: usize,
    num_attention_heads: i64,
    num_key_value_heads: Option<i64>,
    head_dim: Option<i64>,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    #[serde(default = "default_window")]
    max_position_embeddings: u64,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    eos_token_id: Option<OneOrMany>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
    quantization_config: Option<Value>,
}

#[derive(Deserialize)]
struct RawRope {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

fn silu() -> String {
    "silu".to_owned()
}
/// Defaults of transformers' `LlamaConfig`.
fn default_eps() -> f64 {
    1e-6
}
fn default_window() -> u64 {
    2048
}
const DEFAULT_THETA: f64 = 10_000.0;

impl LlamaConfig {
    /// Reads `config.json` of a model folder.
    ///
    /// # Errors
    /// Where it cannot be read, or says something that is not supported.
    pub fn load(model: &Path) -> Result<Self, ModelError> {
        let path = model.join("config.json");
        let text = fs::read_to_string(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
        Self::parse(&text).map_err(|message| ModelError::Config { path, message })
    }

    /// Parses the text of a `config.json`.
    ///
    /// # Errors
    /// What it says that is not supported.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        check_architecture(&value)?;
        let raw: Raw = serde_json::from_value(value).map_err(|error| error.to_string())?;
        raw.refuse_unsupported()?;
        let (rope_theta, rope_scaling) = raw.rope()?;
        let heads = raw.num_attention_heads;
        let config = Self {
            name: raw.name_or_path.filter(|name| is_plain_name(name)),
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            layers: raw.num_hidden_layers,
            heads,
            kv_heads: raw.num_key_value_heads.unwrap_or(heads),
            head_dim: raw.head_dim.unwrap_or(if heads > 0 { raw.hidden_size / heads } else { 0 }),
            rms_norm_eps: raw.rms_norm_eps,
            rope_theta,
            rope_scaling,
            max_position_embeddings: raw.max_position_embeddings,
            tied: raw.tie_word_embeddings,
            attention_bias: raw.attention_bias,
            mlp_bias: raw.mlp_bias,
            eos_token_ids: match raw.eos_token_id {
                None => Vec::new(),
                Some(OneOrMany::One(id)) => vec![id],
                Some(OneOrMany::Many(ids)) => ids,
            },
        };
        config.check_shape()?;
        Ok(config)
    }

    /// Numbers in all weights; a tied head counts once.
    pub fn parameters(&self) -> i64 {
        let bias = |has: bool, width: i64| if has { width } else { 0 };
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let attention = self.hidden_size * (2 * queries + 2 * keys)
            + bias(self.attention_bias, queries + 2 * keys + self.hidden_size);
        let mlp = 3 * self.hidden_size * self.intermediate_size
            + bias(self.mlp_bias, 2 * self.intermediate_size + self.hidden_size);
        let ends = if self.tied { 1 } else { 2 };
        ends * self.vocab_size * self.hidden_size
            + self.layers as i64 * (attention + mlp + 2 * self.hidden_size)
            + self.hidden_size
    }

    fn check_shape(&self) -> Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.layers as i64),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| *size <= 0) {
            return Err(format!("`{name}` is {size}"));
        }
        if self.heads % self.kv_heads != 0 {
            return Err(format!("{} attention heads cannot share {} key-value heads", self.heads, self.kv_heads));
        }
        if self.head_dim % 2 != 0 {
            return Err(format!("`head_dim` is {}, rotary embeddings want an even one", self.head_dim));
        }
        Ok(())
    }
}

fn check_architecture(value: &Value) -> Result<(), String> {
    match value.get("model_type").and_then(Value::as_str) {
        Some("llama") => Ok(()),
        Some(other) => {
            Err(format!("`model_type` is `{other}`; models of the Llama architecture (`llama`) are supported"))
        }
        None => Err("`model_type` is missing; `llama` is wanted".to_owned()),
    }
}

/// `owner/name` or `name`: what a hub knows, and no place on a disk.
fn is_plain_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let plain = |part: &&str| !part.is_empty() && !part.starts_with(['.', '~']) && !part.contains('\\');
    parts.len() <= 2 && parts.iter().all(plain)
}

impl Raw {
    fn refuse_unsupported(&self) -> Result<(), String> {
        debug_assert_eq!(self.model_type, "llama");
        if self.hidden_act != "silu" {
            return Err(format!("`hidden_act` is `{}`; `silu` is supported", self.hidden_act));
        }
        if self.quantization_config.is_some() {
            return Err("the weights are quantised (`quantization_config`); plain weights are wanted".to_owned());
        }
        Ok(())
    }

    fn rope(&self) -> Result<(f64, RopeScaling), String> {
        let rope = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref());
        let theta = rope.and_then(|rope| rope.rope_theta).or(self.rope_theta).unwrap_or(DEFAULT_THETA);
        Ok((theta, rope.map_or(Ok(RopeScaling::None), RawRope::scaling)?))
    }
}

impl RawRope {
    fn scaling(&self) -> Result<RopeScaling, String> {
        if self.partial_rotary_factor.is_some_and(|factor| factor != 1.0) {
            return Err("`partial_rotary_factor` other than 1 is not supported".to_owned());
        }
        match self.rope_type.as_deref() {
            None | Some("default") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear { factor: need(self.factor, "factor")? }),
            Some("llama3") => Ok(RopeScaling::Llama3 {
                factor: need(self.factor, "factor")?,
                low_frequency_factor: need(self.low_freq_factor, "low_freq_factor")?,
                high_frequency_factor: need(self.high_freq_factor, "high_freq_factor")?,
                original_window_tokens: need(
                    self.original_max_position_embeddings,
                    "original_max_position_embeddings",
                )?,
            }),
            Some(other) => Err(format!("rope type `{other}` is not supported: default, linear or llama3")),
        }
    }
}

fn need(value: Option<f64>, name: &str) -> Result<f64, String> {
    value.ok_or_else(|| format!("rope scaling lacks `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(changes: Value) -> Result<LlamaConfig, String> {
        let mut value = json!({
            "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
            "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
            "tie_word_embeddings": true, "rms_norm_eps": 1e-5, "eos_token_id": [128001, 128008, 128009],
        });
        for (name, change) in changes.as_object().unwrap() {
            value[name] = change.clone();
        }
        LlamaConfig::parse(&value.to_string())
    }

    #[test]
    fn parameters_of_llama_3_2() {
        assert_eq!(config(json!({})).unwrap().parameters(), 1_235_814_400);
        let larger = json!({"hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24, "head_dim": 128});
        assert_eq!(config(larger).unwrap().parameters(), 3_212_749_824);
    }

    #[test]
    fn both_spellings_of_rope_say_the_same() {
        let llama3 = json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192});
        let older = config(json!({"rope_theta": 500000.0, "rope_scaling": llama3})).unwrap();
        let mut parameters = llama3;
        parameters["rope_theta"] = json!(500000.0);
        assert_eq!(config(json!({"rope_parameters": parameters})).unwrap(), older);
        assert_eq!(older.rope_theta, 500_000.0);
        assert!(matches!(older.rope_scaling, RopeScaling::Llama3 { factor: 32.0, .. }));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (change, word) in [
            (json!({"model_type": "gpt2"}), "gpt2"),
            (json!({"hidden_act": "gelu"}), "gelu"),
            (json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}), "yarn"),
            (json!({"rope_scaling": {"type": "llama3", "factor": 4.0}}), "low_freq_factor"),
            (json!({"quantization_config": {"bits": 4}}), "quantization_config"),
            (json!({"num_key_value_heads": 5}), "5 key-value heads"),
            (json!({"num_attention_heads": 0}), "num_attention_heads"),
            (json!({"hidden_size": "wide"}), "wide"),
        ] {
            let message = config(change).unwrap_err();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn a_name_is_kept_and_a_path_is_not() {
        let name = |name: &str| config(json!({"_name_or_path": name})).unwrap().name;
        assert_eq!(name("meta-llama/Llama-3.2-1B").as_deref(), Some("meta-llama/Llama-3.2-1B"));
        assert_eq!(name("tiny").as_deref(), Some("tiny"));
        for path in ["", "/data/model", "./model", "../model", "a/b/c", "~/model", "C:\\model"] {
            assert_eq!(name(path), None, "{path}");
        }
    }
}
