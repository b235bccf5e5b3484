//! Which tensor of a GGUF file is which weight of a Llama in the Hugging Face layout, and in which number format it is
//! written: the smallest that holds every stored value exactly.

use half::{bf16, f16};
use indexmap::IndexMap;
use rayon::prelude::*;
use safetensors::Dtype;
use serde_json::Value;

use super::blocks::Format;
use super::reader::{Gguf, GgufError, Tensor, invalid};

/// Parts of a layer: the name in GGUF, in the Hugging Face layout, and whose heads' rows are interleaved.
const PARTS: [(&str, &str, Heads); 9] = [
    ("attn_norm", "input_layernorm", Heads::None),
    ("ffn_norm", "post_attention_layernorm", Heads::None),
    ("attn_q", "self_attn.q_proj", Heads::Query),
    ("attn_k", "self_attn.k_proj", Heads::Key),
    ("attn_v", "self_attn.v_proj", Heads::None),
    ("attn_output", "self_attn.o_proj", Heads::None),
    ("ffn_gate", "mlp.gate_proj", Heads::None),
    ("ffn_up", "mlp.up_proj", Heads::None),
    ("ffn_down", "mlp.down_proj", Heads::None),
];
/// Tensors outside the layers.
const TOP: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    (HEAD, "lm_head.weight"),
];
/// The output projection; a model that shares the embedding has none.
const HEAD: &str = "output.weight";
/// Divisors of the rotary frequencies; no weight.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Whose heads a tensor's rows belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heads {
    None,
    Query,
    Key,
}

/// A weight to write.
#[derive(Debug, Clone, Copy)]
pub struct Weight<'a> {
    /// The stored tensor.
    pub tensor: Tensor<'a>,
    /// Heads whose rows are stored for rotary embeddings of neighbours, where the layout wants halves; else none.
    pub interleaved_heads: Option<usize>,
}

/// All weights of a model.
#[derive(Debug)]
pub struct Plan<'a> {
    /// By name in the Hugging Face layout.
    pub weights: IndexMap<String, Weight<'a>>,
    /// The number format that they are written in.
    pub dtype: Dtype,
    /// Divisors of the rotary frequencies, where the file has them.
    pub rope_factors: Option<Vec<f32>>,
}

impl Plan<'_> {
    /// Whether the output projection is the embedding.
    pub fn is_tied(&self) -> bool {
        !self.weights.contains_key("lm_head.weight")
    }

    /// Whether any of these projections has a bias.
    pub fn has_bias(&self, module: &str) -> bool {
        self.weights.keys().any(|name| name.contains(module) && name.ends_with("_proj.bias"))
    }

    /// A weight.
    pub fn tensor(&self, name: &str) -> Option<&Tensor<'_>> {
        self.weights.get(name).map(|weight| &weight.tensor)
    }

    /// The name of the written number format, as `config.json` spells it.
    pub fn dtype_name(&self) -> &'static str {
        match self.dtype {
            Dtype::BF16 => "bfloat16",
            Dtype::F16 => "float16",
            _ => "float32",
        }
    }

    /// How many tensors are stored in which format.
    pub fn stored_as(&self) -> Value {
        let mut counts = std::collections::BTreeMap::new();
        self.weights.values().for_each(|weight| *counts.entry(weight.tensor.format.name()).or_insert(0_u64) += 1);
        counts
            .into_iter()
            .map(|(name, count)| (name.to_owned(), Value::from(count)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// Finds every weight.
///
/// # Errors
/// Another architecture, a tensor that is missing, or one that a Llama has not.
pub fn plan<'a>(gguf: &Gguf<'a>) -> Result<Plan<'a>, GgufError> {
    match gguf.text("general.architecture") {
        Some("llama") => {}
        other => {
            return Err(invalid(format!(
                "its architecture is {}; only llama is converted",
                other.unwrap_or("not said")
            )));
        }
    }
    if gguf.number("split.count").is_some_and(|count| count > 1) {
        return Err(invalid("it is one part of a split model; join the parts with gguf-split first"));
    }
    let heads = gguf.required("llama.attention.head_count")?;
    let key_heads = gguf.number("llama.attention.head_count_kv").unwrap_or(heads);
    let count = |kind| match kind {
        Heads::None => None,
        Heads::Query => Some(heads as usize),
        Heads::Key => Some(key_heads as usize),
    };
    let mut weights = IndexMap::new();
    let mut rope_factors = None;
    for tensor in &gguf.tensors {
        if tensor.name == ROPE_FACTORS {
            rope_factors = Some(numbers(tensor));
            continue;
        }
        let (name, kind) = rename(tensor.name).ok_or_else(|| {
            invalid(format!("a Llama has no tensor `{}`; the model cannot be converted", tensor.name))
        })?;
        let weight = Weight { tensor: *tensor, interleaved_heads: count(kind) };
        check_heads(&weight)?;
        if weights.insert(name, weight).is_some() {
            return Err(invalid(format!("tensor `{}` is there twice", tensor.name)));
        }
    }
    check_complete(&weights, gguf.required("llama.block_count")?)?;
    let dtype = exact_dtype(weights.values());
    Ok(Plan { weights, dtype, rope_factors })
}

/// A tensor's name in the Hugging Face layout.
fn rename(name: &str) -> Option<(String, Heads)> {
    if let Some((_, top)) = TOP.iter().find(|(gguf, _)| *gguf == name) {
        return Some(((*top).to_owned(), Heads::None));
    }
    let mut words = name.strip_prefix("blk.")?.splitn(3, '.');
    let layer: u32 = words.next()?.parse().ok()?;
    let part = words.next()?;
    let kind = words.next().filter(|kind| matches!(*kind, "weight" | "bias"))?;
    let (_, module, heads) = PARTS.iter().find(|(gguf, _, _)| *gguf == part)?;
    Some((format!("model.layers.{layer}.{module}.{kind}"), *heads))
}

fn check_heads(weight: &Weight) -> Result<(), GgufError> {
    let (Some(heads), tensor) = (weight.interleaved_heads, &weight.tensor) else { return Ok(()) };
    let length = if tensor.is_vector { tensor.columns } else { tensor.rows };
    let pairs = heads.checked_mul(2).filter(|&pairs| pairs > 0 && length.is_multiple_of(pairs));
    if pairs.is_none() {
        return Err(invalid(format!("tensor `{}` has {length} rows for {heads} heads", tensor.name)));
    }
    // Its rows are single numbers, which a block of several cannot be taken apart into.
    if tensor.is_vector && tensor.format.block_numbers() > 1 {
        return Err(invalid(format!("tensor `{}` is a quantised bias, which is not converted", tensor.name)));
    }
    Ok(())
}

fn check_complete(weights: &IndexMap<String, Weight>, layers: u64) -> Result<(), GgufError> {
    let top = TOP.iter().filter(|(gguf, _)| *gguf != HEAD).map(|(_, name)| (*name).to_owned());
    let parts = (0..layers)
        .flat_map(|layer| PARTS.iter().map(move |(_, module, _)| format!("model.layers.{layer}.{module}.weight")));
    match top.chain(parts).find(|name| !weights.contains_key(name)) {
        Some(missing) => Err(invalid(format!("the tensor of {missing} is missing"))),
        None => Ok(()),
    }
}

/// The smallest format that holds every value: half precision only where all is stored in half precision or exact in it.
fn exact_dtype<'a>(weights: impl Iterator<Item = &'a Weight<'a>>) -> Dtype {
    let tensors: Vec<_> = weights.map(|weight| &weight.tensor).collect();
    let all = |formats: &[Format]| tensors.iter().all(|tensor| formats.contains(&tensor.format));
    let any = |format: Format| tensors.iter().any(|tensor| tensor.format == format);
    let exact = |fits: fn(f32) -> bool| {
        let plain = tensors.par_iter().filter(|tensor| tensor.format == Format::F32);
        plain.all(|tensor| numbers(tensor).into_iter().all(fits))
    };
    if any(Format::Bf16)
        && all(&[Format::Bf16, Format::F32])
        && exact(|number| bf16::from_f32(number).to_f32().to_bits() == number.to_bits())
    {
        Dtype::BF16
    } else if any(Format::F16)
        && all(&[Format::F16, Format::F32])
        && exact(|number| f16::from_f32(number).to_f32().to_bits() == number.to_bits())
    {
        Dtype::F16
    } else {
        Dtype::F32
    }
}

/// All numbers of a tensor.
fn numbers(tensor: &Tensor) -> Vec<f32> {
    let mut numbers = vec![0.0; tensor.rows * tensor.columns];
    tensor.format.unpack(tensor.data, &mut numbers);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_translated() {
        assert_eq!(rename("token_embd.weight").unwrap().0, "model.embed_tokens.weight");
        let (name, heads) = rename("blk.12.attn_k.weight").unwrap();
        assert_eq!((name.as_str(), heads), ("model.layers.12.self_attn.k_proj.weight", Heads::Key));
        assert_eq!(rename("blk.0.attn_q.bias").unwrap().0, "model.layers.0.self_attn.q_proj.bias");
        for unknown in ["blk.0.ffn_gate_exps.weight", "blk.x.attn_q.weight", "blk.0.attn_q", "v.patch.weight"] {
            assert!(rename(unknown).is_none(), "{unknown}");
        }
    }
}
