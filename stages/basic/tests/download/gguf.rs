//! GGUF files, written here byte by byte: a Llama of one layer.

use std::path::Path;

use half::{bf16, f16};
use neftpipe_protocol::ArtifactType;
use neftpipe_protocol::FailureClass::Data;
use neftpipe_text::Tokenizer;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::worker::Download;

const HIDDEN: usize = 64;
const KEYS: usize = 32;
const TOKENS: [&str; 8] = ["<|bos|>", "<|end|>", "h", "i", "hi", "Ġ", "1", "2"];

/// Codes of number formats.
const F32: u32 = 0;
const F16: u32 = 1;
const Q8_0: u32 = 8;
const Q2_K: u32 = 10;
const BF16: u32 = 30;

#[derive(Default)]
struct Gguf {
    pairs: Vec<u8>,
    pair_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Gguf {
    fn pair(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.pairs.extend([text(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat());
        self.pair_count += 1;
        self
    }

    fn number(self, key: &str, value: u32) -> Self {
        self.pair(key, 4, &value.to_le_bytes())
    }

    fn float(self, key: &str, value: f32) -> Self {
        self.pair(key, 6, &value.to_le_bytes())
    }

    fn text(self, key: &str, value: &str) -> Self {
        self.pair(key, 8, &text(value))
    }

    fn list(self, key: &str, kind: u32, items: &[Vec<u8>]) -> Self {
        let head = [&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes()].concat();
        self.pair(key, 9, &[head, items.concat()].concat())
    }

    fn tensor(mut self, name: &str, shape: &[usize], kind: u32, data: &[u8]) -> Self {
        self.tensors.extend(text(name));
        self.tensors.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|&n| self.tensors.extend((n as u64).to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(data);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.tensor_count += 1;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&b"GGUF"[..], &3_u32.to_le_bytes()].concat();
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.pair_count.to_le_bytes());
        bytes.extend(&self.pairs);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

/// All but the tensors.
fn metadata() -> Gguf {
    let texts = |items: &[&str]| items.iter().map(|item| text(item)).collect::<Vec<_>>();
    let types: Vec<_> = [3, 3, 1, 1, 1, 1, 1, 1].map(|kind: i32| kind.to_le_bytes().to_vec()).into();
    Gguf::default()
        .text("general.architecture", "llama")
        .number("llama.block_count", 1)
        .number("llama.context_length", 128)
        .number("llama.embedding_length", HIDDEN as u32)
        .number("llama.feed_forward_length", 32)
        .number("llama.attention.head_count", 2)
        .number("llama.attention.head_count_kv", 1)
        .float("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .float("llama.rope.freq_base", 100_000.0)
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "smollm")
        .list("tokenizer.ggml.tokens", 8, &texts(&TOKENS))
        .list("tokenizer.ggml.token_type", 5, &types)
        .list("tokenizer.ggml.merges", 8, &texts(&["h i"]))
        .number("tokenizer.ggml.bos_token_id", 0)
        .number("tokenizer.ggml.eos_token_id", 1)
        .text("tokenizer.chat_template", "{{ messages }}")
}

/// Rows of a matrix that all hold their own number.
fn numbered(rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| (i / columns) as f32).collect()
}

fn stored(kind: u32, numbers: &[f32]) -> Vec<u8> {
    match kind {
        F16 => numbers.iter().flat_map(|&n| f16::from_f32(n).to_le_bytes()).collect(),
        BF16 => numbers.iter().flat_map(|&n| bf16::from_f32(n).to_le_bytes()).collect(),
        _ => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
    }
}

/// The layer and the last norm, matrices in one format, vectors in 32-bit floats.
fn layer(gguf: Gguf, kind: u32, norm: f32) -> Gguf {
    let matrix = |gguf: Gguf, name: &str, rows: usize, columns: usize| {
        gguf.tensor(&format!("blk.0.{name}.weight"), &[columns, rows], kind, &stored(kind, &numbered(rows, columns)))
    };
    let norm = stored(F32, &[norm; HIDDEN]);
    let mut gguf = gguf
        .tensor("output_norm.weight", &[HIDDEN], F32, &norm)
        .tensor("blk.0.attn_norm.weight", &[HIDDEN], F32, &norm)
        .tensor("blk.0.ffn_norm.weight", &[HIDDEN], F32, &norm);
    for (name, rows, columns) in [
        ("attn_q", HIDDEN, HIDDEN),
        ("attn_k", KEYS, HIDDEN),
        ("attn_v", KEYS, HIDDEN),
        ("attn_output", HIDDEN, HIDDEN),
        ("ffn_gate", 32, HIDDEN),
        ("ffn_up", 32, HIDDEN),
        ("ffn_down", HIDDEN, 32),
    ] {
        gguf = matrix(gguf, name, rows, columns);
    }
    gguf
}

/// The embedding in Q8_0: every block has the scale 0.5 and counts from -16.
fn quantised(gguf: Gguf) -> Gguf {
    let block: Vec<u8> = f16::from_f32(0.5).to_le_bytes().into_iter().chain((-16_i8..16).map(|q| q as u8)).collect();
    gguf.tensor("token_embd.weight", &[HIDDEN, TOKENS.len()], Q8_0, &block.repeat(2 * TOKENS.len()))
}

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
fn no_cut_of_a_file_makes_the_reader_panic() {
    let whole = quantised(layer(metadata(), F32, 1.0)).bytes();
    let header = whole.len() - 40_000;
    for cut in (0..header).step_by(header / 12) {
        convert(&whole[..cut]).run().failure(Data);
    }
}

#[test]
fn one_of_several_files_must_be_chosen() {
    let params = json!({"from": "file:data"});
    let done = Download::new(params).file("data/a.gguf", "x").file("data/b.gguf", "x").run();
    done.fails(Data, &["2 .gguf files", "`a.gguf`", "select"]);
}
