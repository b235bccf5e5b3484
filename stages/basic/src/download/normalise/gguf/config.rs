//! `config.json` and `generation_config.json` of a Llama from GGUF metadata.

use std::f64::consts::PI;

use serde_json::{Map, Value, json};

use super::reader::{Gguf, GgufError, invalid};
use super::tensors::Plan;

/// The model's configuration, in the spelling of the Hugging Face layout.
///
/// # Errors
/// Metadata that is missing, or a rotary scaling that is not known.
pub fn config(gguf: &Gguf, plan: &Plan, name: &str) -> Result<Value, GgufError> {
    let hidden = gguf.required("llama.embedding_length")?;
    let heads = gguf.required("llama.attention.head_count")?;
    let key_heads = match gguf.get("llama.attention.head_count_kv") {
        None => heads,
        Some(_) => gguf.required("llama.attention.head_count_kv")?,
    };
    let head_dim = match gguf.number("llama.attention.key_length") {
        Some(length) => length,
        None if heads > 0 => hidden / heads,
        None => return Err(invalid("the model has no attention heads")),
    };
    let epsilon = gguf.get("llama.attention.layer_norm_rms_epsilon").and_then(Value::as_f64);
    let epsilon = epsilon.ok_or_else(|| invalid("the metadata has no `llama.attention.layer_norm_rms_epsilon`"))?;
    let theta = gguf.get("llama.rope.freq_base").and_then(Value::as_f64).unwrap_or(10_000.0);
    let vocabulary = plan.tensor("model.embed_tokens.weight").map(|tensor| tensor.rows);
    let mut config = json!({
        "_name_or_path": name,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": gguf.required("llama.feed_forward_length")?,
        "num_hidden_layers": gguf.required("llama.block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": epsilon,
        "rope_theta": theta,
        "rope_scaling": rope_scaling(gguf, plan, theta, head_dim)?,
        "max_position_embeddings": gguf.required("llama.context_length")?,
        "tie_word_embeddings": plan.is_tied(),
        "attention_bias": plan.has_bias("self_attn"),
        "mlp_bias": plan.has_bias("mlp"),
        "torch_dtype": plan.dtype_name(),
    });
    if let Some(map) = config.as_object_mut() {
        map.extend(special_ids(gguf));
    }
    Ok(config)
}

/// The defaults of generation: which tokens begin and end a text.
pub fn generation(gguf: &Gguf) -> Value {
    Value::Object(special_ids(gguf))
}

fn special_ids(gguf: &Gguf) -> Map<String, Value> {
    let id = |name: &str| gguf.number(&format!("tokenizer.ggml.{name}_token_id"));
    let ends: Vec<u64> = [id("eos"), id("eot")].into_iter().flatten().collect();
    let end = match ends.as_slice() {
        [eos, eot] if eos != eot => Some(json!([eos, eot])),
        [eos, ..] => Some(json!(eos)),
        [] => None,
    };
    let ids = [("bos_token_id", id("bos").map(Value::from)), ("eos_token_id", end)];
    let ids = ids.into_iter().chain([("pad_token_id", id("padding").map(Value::from))]);
    ids.filter_map(|(name, id)| Some((name.to_owned(), id?))).collect()
}

fn rope_scaling(gguf: &Gguf, plan: &Plan, theta: f64, head_dim: u64) -> Result<Value, GgufError> {
    let factor = gguf.get("llama.rope.scaling.factor").and_then(Value::as_f64);
    match (gguf.text("llama.rope.scaling.type"), factor) {
        (None | Some("none"), _) => {}
        (Some("linear"), Some(factor)) if plan.rope_factors.is_none() => {
            return Ok(json!({"rope_type": "linear", "factor": factor}));
        }
        (Some(other), _) => return Err(invalid(format!("its rotary scaling `{other}` is not converted"))),
    }
    match &plan.rope_factors {
        Some(factors) => llama3_scaling(factors, theta, head_dim),
        None => Ok(Value::Null),
    }
}

/// Llama 3's scaling is stored as the divisors it yields. Those of all published models come from one set of
/// parameters and a factor, which is the largest divisor; any others are refused.
fn llama3_scaling(factors: &[f32], theta: f64, head_dim: u64) -> Result<Value, GgufError> {
    const LOW: f64 = 1.0;
    const HIGH: f64 = 4.0;
    const CONTEXT: f64 = 8192.0;
    let factor = f64::from(factors.iter().copied().fold(1.0, f32::max));
    let divisor = |i: usize| {
        let wavelength = 2.0 * PI * theta.powf(2.0 * i as f64 / head_dim as f64);
        let smooth = ((CONTEXT / wavelength - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
        1.0 / ((1.0 - smooth) / factor + smooth)
    };
    let fits = |(i, &stored): (usize, &f32)| (f64::from(stored) / divisor(i) - 1.0).abs() < 1e-3;
    if 2 * factors.len() as u64 != head_dim || !factors.iter().enumerate().all(fits) {
        return Err(invalid(
            "its rotary divisors (rope_freqs.weight) are not those of Llama 3; take its safetensors instead",
        ));
    }
    Ok(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LOW,
        "high_freq_factor": HIGH,
        "original_max_position_embeddings": CONTEXT as u64,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_3_s_scaling_is_recognised_by_its_divisors() {
        // Llama 3.2: theta 500000, 64 numbers a head, factor 32; the first divisors are 1, the last 32.
        let stored: Vec<f32> = (0..32)
            .map(|i| {
                let wavelength = 2.0 * std::f32::consts::PI * 500_000_f32.powf(i as f32 / 32.0);
                match wavelength {
                    short if short < 2048.0 => 1.0,
                    long if long > 8192.0 => 32.0,
                    middle => {
                        let smooth = (8192.0 / middle - 1.0) / 3.0;
                        1.0 / ((1.0 - smooth) / 32.0 + smooth)
                    }
                }
            })
            .collect();
        let scaling = llama3_scaling(&stored, 500_000.0, 64).unwrap();
        assert_eq!((&scaling["rope_type"], &scaling["factor"]), (&json!("llama3"), &json!(32.0)));
        assert!(llama3_scaling(&stored, 10_000.0, 64).is_err());
        assert!(llama3_scaling(&stored[1..], 500_000.0, 64).is_err());
    }
}
