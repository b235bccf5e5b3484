//! Writes a GGUF file byte by byte: a Llama of one layer. Also used by the unit tests of the reader.

use half::{bf16, f16};

pub const HIDDEN: usize = 64;
pub const KEYS: usize = 32;
pub const TOKENS: [&str; 8] = ["<|bos|>", "<|end|>", "h", "i", "hi", "Ġ", "1", "2"];

/// Codes of number formats.
pub const F32: u32 = 0;
pub const F16: u32 = 1;
pub const Q8_0: u32 = 8;
pub const BF16: u32 = 30;

#[derive(Default)]
pub struct Gguf {
    pairs: Vec<u8>,
    pair_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    /// The tensors' data, which ends the file.
    pub data: Vec<u8>,
}

pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl Gguf {
    pub fn pair(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.pairs.extend([text(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat());
        self.pair_count += 1;
        self
    }

    pub fn number(self, key: &str, value: u32) -> Self {
        self.pair(key, 4, &value.to_le_bytes())
    }

    pub fn float(self, key: &str, value: f32) -> Self {
        self.pair(key, 6, &value.to_le_bytes())
    }

    pub fn text(self, key: &str, value: &str) -> Self {
        self.pair(key, 8, &text(value))
    }

    pub fn list(self, key: &str, kind: u32, items: &[Vec<u8>]) -> Self {
        let head = [&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes()].concat();
        self.pair(key, 9, &[head, items.concat()].concat())
    }

    pub fn tensor(mut self, name: &str, shape: &[usize], kind: u32, data: &[u8]) -> Self {
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

    pub fn bytes(&self) -> Vec<u8> {
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
pub fn metadata() -> Gguf {
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
pub fn numbered(rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| (i / columns) as f32).collect()
}

pub fn stored(kind: u32, numbers: &[f32]) -> Vec<u8> {
    match kind {
        F16 => numbers.iter().flat_map(|&n| f16::from_f32(n).to_le_bytes()).collect(),
        BF16 => numbers.iter().flat_map(|&n| bf16::from_f32(n).to_le_bytes()).collect(),
        _ => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
    }
}

/// The layer and the last norm, matrices in one format, vectors in 32-bit floats.
pub fn layer(gguf: Gguf, kind: u32, norm: f32) -> Gguf {
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
pub fn quantised(gguf: Gguf) -> Gguf {
    let block: Vec<u8> = f16::from_f32(0.5).to_le_bytes().into_iter().chain((-16_i8..16).map(|q| q as u8)).collect();
    gguf.tensor("token_embd.weight", &[HIDDEN, TOKENS.len()], Q8_0, &block.repeat(2 * TOKENS.len()))
}
