//! `tokenizer.json` and `tokenizer_config.json` from GGUF metadata: byte-level BPE with a known way of splitting text.
//!
//! GGUF holds the vocabulary and the merges, but names the splitting (`tokenizer.ggml.pre`) instead of describing it. The
//! names that Llama models use are known here; another would tokenise differently without anyone noticing, so it is refused.

use serde_json::{Map, Value, json};

use super::reader::{Gguf, GgufError, invalid};

/// The two files.
#[derive(Debug)]
pub struct Tokenizer {
    /// `tokenizer.json`.
    pub tokenizer: Value,
    /// `tokenizer_config.json`.
    pub config: Value,
}

/// Types of tokens, as GGUF numbers them.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// How Llama 3 splits text before merging.
const LLAMA3_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How text is split before merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Split {
    /// GPT-2's words.
    Gpt2,
    /// Every digit alone, then GPT-2's words.
    SmolLm,
    /// Llama 3's words; a word that is a token is taken whole.
    Llama3,
}

/// Builds both files.
///
/// # Errors
/// Another kind of tokenizer, or lists that do not fit together.
pub fn tokenizer(gguf: &Gguf) -> Result<Tokenizer, GgufError> {
    match gguf.text("tokenizer.ggml.model") {
        Some("gpt2") => {}
        other => {
            let what = other.unwrap_or("not said");
            return Err(invalid(format!("its tokenizer is `{what}`; only byte-level BPE (`gpt2`) is converted")));
        }
    }
    let split = split(gguf)?;
    let tokens = texts(gguf, "tokenizer.ggml.tokens")?;
    let special = Special::read(gguf, &tokens)?;
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added(gguf, &tokens)?,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer(split),
        "post_processor": special.post_processor(gguf, split),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": split == Split::Llama3,
            "vocab": vocabulary(&tokens)?,
            "merges": merges(gguf)?,
        },
    });
    Ok(Tokenizer { tokenizer, config: special.config(gguf) })
}

fn split(gguf: &Gguf) -> Result<Split, GgufError> {
    match gguf.text("tokenizer.ggml.pre") {
        Some("gpt-2") => Ok(Split::Gpt2),
        Some("smollm" | "starcoder" | "refact") => Ok(Split::SmolLm),
        Some("llama-bpe" | "llama3" | "llama-v3") => Ok(Split::Llama3),
        other => Err(invalid(format!(
            "its tokenizer splits text by `{}`, which is not known; gpt-2, smollm, starcoder, refact and llama-bpe are",
            other.unwrap_or("nothing that it names")
        ))),
    }
}

fn pre_tokenizer(split: Split) -> Value {
    let bytes =
        |words: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": words});
    match split {
        Split::Gpt2 => bytes(true),
        Split::SmolLm => json!({
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes(true)],
        }),
        Split::Llama3 => json!({
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": LLAMA3_SPLIT}, "behavior": "Isolated", "invert": false},
                bytes(false),
            ],
        }),
    }
}

fn texts<'a>(gguf: &'a Gguf, key: &str) -> Result<Vec<&'a str>, GgufError> {
    let list = gguf.list(key).ok_or_else(|| invalid(format!("the metadata has no list `{key}`")))?;
    list.iter()
        .map(|item| item.as_str().ok_or_else(|| invalid(format!("`{key}` holds something that is no text"))))
        .collect()
}

fn vocabulary(tokens: &[&str]) -> Result<Map<String, Value>, GgufError> {
    let mut vocabulary = Map::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        if vocabulary.insert((*token).to_owned(), Value::from(id)).is_some() {
            return Err(invalid(format!("the token {token:?} is in the vocabulary twice")));
        }
    }
    Ok(vocabulary)
}

fn merges(gguf: &Gguf) -> Result<Vec<Value>, GgufError> {
    let pair = |merge: &str| match merge.split_once(' ') {
        Some((left, right)) => Ok(json!([left, right])),
        None => Err(invalid(format!("the merge {merge:?} is no pair"))),
    };
    texts(gguf, "tokenizer.ggml.merges")?.into_iter().map(pair).collect()
}

/// Tokens that are found in a text before it is split.
fn added(gguf: &Gguf, tokens: &[&str]) -> Result<Vec<Value>, GgufError> {
    let types = gguf.list("tokenizer.ggml.token_type").map(Vec::as_slice).unwrap_or_default();
    if !types.is_empty() && types.len() != tokens.len() {
        return Err(invalid(format!("there are {} tokens and {} types of tokens", tokens.len(), types.len())));
    }
    let found = tokens.iter().zip(types).enumerate().filter_map(|(id, (token, kind))| {
        let kind = kind.as_i64().filter(|kind| matches!(*kind, CONTROL | USER_DEFINED))?;
        Some(json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": kind == CONTROL,
        }))
    });
    Ok(found.collect())
}

/// The tokens with a role.
struct Special<'a> {
    bos: Option<(&'a str, u64)>,
    eos: Option<(&'a str, u64)>,
    unk: Option<(&'a str, u64)>,
    pad: Option<(&'a str, u64)>,
}

impl<'a> Special<'a> {
    fn read(gguf: &Gguf, tokens: &[&'a str]) -> Result<Self, GgufError> {
        let token = |role: &str| {
            let key = format!("tokenizer.ggml.{role}_token_id");
            let Some(id) = gguf.number(&key) else { return Ok(None) };
            let text = usize::try_from(id).ok().and_then(|id| tokens.get(id));
            text.map(|&text| Some((text, id)))
                .ok_or_else(|| invalid(format!("`{key}` is {id}, and there is no such token")))
        };
        Ok(Self { bos: token("bos")?, eos: token("eos")?, unk: token("unknown")?, pad: token("padding")? })
    }

    fn adds(gguf: &Gguf, role: &str, default: bool) -> bool {
        gguf.get(&format!("tokenizer.ggml.add_{role}_token")).and_then(Value::as_bool).unwrap_or(default)
    }

    /// What stands around every text.
    fn post_processor(&self, gguf: &Gguf, split: Split) -> Value {
        let bos = self.bos.filter(|_| Self::adds(gguf, "bos", split == Split::Llama3));
        let eos = self.eos.filter(|_| Self::adds(gguf, "eos", false));
        if bos.is_none() && eos.is_none() {
            return Value::Null;
        }
        let around = |sequence: &str, kind: u8| {
            let token = |(text, _): (&str, u64)| json!({"SpecialToken": {"id": text, "type_id": kind}});
            let text = json!({"Sequence": {"id": sequence, "type_id": kind}});
            bos.map(token).into_iter().chain([text]).chain(eos.map(token)).collect::<Vec<_>>()
        };
        let tokens: Map<_, _> = [bos, eos]
            .into_iter()
            .flatten()
            .map(|(text, id)| (text.to_owned(), json!({"id": text, "ids": [id], "tokens": [text]})))
            .collect();
        let pair: Vec<_> = around("A", 0).into_iter().chain(around("B", 1)).collect();
        json!({"type": "TemplateProcessing", "single": around("A", 0), "pair": pair, "special_tokens": tokens})
    }

    fn config(&self, gguf: &Gguf) -> Value {
        let roles =
            [("bos_token", self.bos), ("eos_token", self.eos), ("unk_token", self.unk), ("pad_token", self.pad)];
        let mut config = Map::new();
        config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
        config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
        config.extend(roles.into_iter().filter_map(|(role, token)| Some((role.to_owned(), json!(token?.0)))));
        if let Some(length) = gguf.number("llama.context_length") {
            config.insert("model_max_length".to_owned(), json!(length));
        }
        if let Some(template) = gguf.text("tokenizer.chat_template") {
            config.insert("chat_template".to_owned(), json!(template));
        }
        Value::Object(config)
    }
}
