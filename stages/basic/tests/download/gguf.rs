//! GGUF files become models.

use std::path::Path;

use half::{bf16, f16};
use neftpipe_protocol::ArtifactType;
use neftpipe_protocol::FailureClass::Data;
use neftpipe_text::Tokenizer;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::gguf_file::{BF16, F16, F32, Gguf, HIDDEN, KEYS, TOKENS, layer, metadata, numbered, quantised, stored};
use crate::worker::Download;

/// A format that is not converted.
const Q2_K: u32 = 10;

fn convert(bytes: &[u8]) -> Download {
    Download::new(json!({"from": "file:tiny.gguf"})).file("tiny.gguf", bytes)
}

fn floats(path: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    let numbers: Vec<f32> = match tensor.dtype() {
        Dtype::BF16 => tensor.data().chunks(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::F16 => tensor.data().chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::F32 => tensor.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        other => panic!("{other:?}"),
    };
    (tensor.shape().to_vec(), numbers)
}

#[test]
fn a_quantised_model_is_unpacked_exactly() {
    let done = convert(&quantised(layer(metadata(), F32, 1.0)).bytes()).run();
    assert_eq!(done.artifact(), ArtifactType::Model);
    let names =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(done.names(), names);
    let weights = done.path("model.safetensors");
    let (shape, embedding) = floats(&weights, "model.embed_tokens.weight");
    assert_eq!(shape, [TOKENS.len(), HIDDEN]);
    assert_eq!((embedding[0], embedding[1], embedding[31], embedding[32]), (-8.0, -7.5, 7.5, -8.0));

    // Two heads of 32 rows: stored neighbours 2i, 2i + 1 become i, i + 16.
    let (_, query) = floats(&weights, "model.layers.0.self_attn.q_proj.weight");
    let rows: Vec<_> = query.chunks(HIDDEN).map(|row| row[0] as usize).collect();
    let wanted: Vec<_> =
        (0..2).flat_map(|head| (0..2).flat_map(move |half| (0..16).map(move |i| 32 * head + 2 * i + half))).collect();
    assert_eq!(rows, wanted);
    let (_, value) = floats(&weights, "model.layers.0.self_attn.v_proj.weight");
    assert_eq!(value, numbered(KEYS, HIDDEN));
}

#[test]
fn the_configuration_is_that_of_the_file() {
    let config = convert(&quantised(layer(metadata(), F32, 1.0)).bytes()).run().json("config.json");
    for (key, value) in [
        ("model_type", json!("llama")),
        ("vocab_size", json!(8)),
        ("num_key_value_heads", json!(1)),
        ("head_dim", json!(32)),
        ("rms_norm_eps", json!(1e-5)),
        ("rope_theta", json!(100_000.0)),
        ("tie_word_embeddings", json!(true)),
        ("torch_dtype", json!("float32")),
        ("eos_token_id", json!(1)),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
}

#[test]
fn the_tokenizer_splits_digits_and_knows_its_special_tokens() {
    let done = convert(&quantised(layer(metadata(), F32, 1.0)).bytes()).run();
    let tokenizer = Tokenizer::load(&done.path("")).unwrap();
    assert_eq!(tokenizer.encode("<|bos|>hi hi12<|end|>").unwrap(), [0, 4, 5, 4, 6, 7, 1]);
    assert_eq!(tokenizer.chat_template(), Some("{{ messages }}"));
    assert_eq!((tokenizer.bos_token_id(), tokenizer.eos_token_id(), tokenizer.adds_bos()), (Some(0), Some(1), false));
}

#[test]
fn half_precision_is_kept_where_it_is_exact() {
    for (kind, norm, dtype) in
        [(BF16, 1.5, "bfloat16"), (F16, 1.5, "float16"), (BF16, 1.0 + f32::EPSILON, "float32"), (F32, 1.5, "float32")]
    {
        let numbers = stored(kind, &numbered(TOKENS.len(), HIDDEN));
        let gguf = layer(metadata(), kind, norm).tensor("token_embd.weight", &[HIDDEN, TOKENS.len()], kind, &numbers);
        let done = convert(&gguf.bytes()).run();
        assert_eq!(done.json("config.json")["torch_dtype"], dtype);
        let (_, found) = floats(&done.path("model.safetensors"), "model.norm.weight");
        assert_eq!(found, [norm; HIDDEN]);
    }
}

#[test]
fn damaged_and_foreign_files_are_refused_by_name() {
    let whole = quantised(layer(metadata(), F32, 1.0)).bytes();
    convert(&whole[..whole.len() - 40]).run().fails(Data, &["tiny.gguf", "truncated", "`token_embd.weight`"]);
    convert(&whole[..200]).run().fails(Data, &["tiny.gguf", "truncated"]);
    convert(b"GGML....").run().fails(Data, &["tiny.gguf", "not a GGUF file"]);
    convert(b"GGUF\x01\0\0\0").run().fails(Data, &["version 1"]);

    let gpt = Gguf::default().text("general.architecture", "gptneox");
    convert(&gpt.bytes()).run().fails(Data, &["gptneox", "only llama"]);
    let foreign = layer(metadata(), F32, 1.0).tensor("token_embd.weight", &[256, 1], Q2_K, &[0; 84]);
    convert(&foreign.bytes()).run().fails(Data, &["`token_embd.weight` is stored as Q2_K", "Q4_K"]);
    let headless = layer(metadata(), F32, 1.0);
    convert(&headless.bytes()).run().fails(Data, &["model.embed_tokens.weight is missing"]);
    let expert = quantised(layer(metadata(), F32, 1.0)).tensor("blk.0.ffn_gate_exps.weight", &[1], F32, &[0; 4]);
    convert(&expert.bytes()).run().fails(Data, &["`blk.0.ffn_gate_exps.weight`"]);
}

#[test]
fn one_of_several_files_must_be_chosen() {
    let params = json!({"from": "file:data"});
    let done = Download::new(params).file("data/a.gguf", "x").file("data/b.gguf", "x").run();
    done.fails(Data, &["2 .gguf files", "`a.gguf`", "select"]);
}
