//! A model's tokenizer: texts to ids and back, and which ids mean beginning, end and padding.
//!
//! It never adds special tokens by itself: what a text should begin and end with stands in the text.

use std::path::Path;

use tokenizers::Tokenizer as Engine;

use crate::model_files::ModelFiles;
use crate::{Piece, TextError};

/// A tokenizer with its special tokens and the model's chat template.
pub struct Tokenizer {
    engine: Engine,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    ends: Vec<u32>,
    adds_bos: bool,
    chat_template: Option<String>,
    continuation: Continuation,
}

/// How the text after another text is encoded.
enum Continuation {
    /// As any text.
    Plain,
    /// The tokenizer puts a space before every text: encode after a newline, whose tokens are these, and drop them.
    AfterNewline(Vec<u32>),
}

/// Tokens of a row, and which of them carry loss.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each id, whether it is trained on.
    pub trained: Vec<bool>,
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model's folder and what `tokenizer_config.json`, `config.json`,
    /// `generation_config.json` and `chat_template.jinja` add, where they are there.
    ///
    /// # Errors
    /// Where there is no tokenizer, or a file is not what it should be.
    pub fn load(model: &Path) -> Result<Self, TextError> {
        let path = model.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|source| TextError::Read { path: path.clone(), source })?;
        let refuse = |error: tokenizers::Error| TextError::File { path: path.clone(), problem: error.to_string() };
        let mut engine = Engine::from_bytes(bytes).map_err(refuse)?;
        engine.with_padding(None).with_truncation(None).map_err(refuse)?;
        Self::assemble(engine, ModelFiles::read(model)?)
    }

    fn assemble(engine: Engine, files: ModelFiles) -> Result<Self, TextError> {
        let id = |text: &Option<String>| text.as_deref().and_then(|text| engine.token_to_id(text));
        let bos = id(&files.bos_token).or(files.bos_id);
        let eos = id(&files.eos_token).or(files.eos_ids.first().copied());
        let pad = id(&files.pad_token);
        let mut ends: Vec<u32> = files.eos_ids.iter().copied().chain(eos).collect();
        ends.sort_unstable();
        ends.dedup();
        let mut tokenizer = Self {
            engine,
            bos,
            eos,
            pad,
            ends,
            adds_bos: false,
            chat_template: files.chat_template,
            continuation: Continuation::Plain,
        };
        tokenizer.adds_bos = bos.is_some() && files.add_bos_token.map_or_else(|| tokenizer.processor_adds_bos(), Ok)?;
        tokenizer.continuation = tokenizer.detect_continuation()?;
        Ok(tokenizer)
    }

    /// Whether the post-processor of `tokenizer.json` puts the begin token ahead of a text.
    fn processor_adds_bos(&self) -> Result<bool, TextError> {
        Ok(self.encode_with("a", true)?.first().copied() == self.bos)
    }

    fn detect_continuation(&self) -> Result<Continuation, TextError> {
        let first = self.encode("a")?.first().and_then(|&id| self.token_text(id));
        if first.is_none_or(|text| !text.starts_with('▁')) {
            return Ok(Continuation::Plain);
        }
        Ok(Continuation::AfterNewline(self.encode("\n")?))
    }

    /// Encodes a text. No special tokens are added; those whose text occurs are recognised.
    ///
    /// # Errors
    /// Where the library refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        self.encode_with(text, false)
    }

    fn encode_with(&self, text: &str, special: bool) -> Result<Vec<u32>, TextError> {
        let encoding = self.engine.encode_fast(text, special).map_err(|e| TextError::Tokenizer(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Encodes many texts, on all cores.
    ///
    /// # Errors
    /// Where the library refuses a text.
    pub fn encode_batch(&self, texts: &[impl AsRef<str> + Sync]) -> Result<Vec<Vec<u32>>, TextError> {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let encodings = self.engine.encode_batch_fast(texts, false).map_err(|e| TextError::Tokenizer(e.to_string()))?;
        Ok(encodings.iter().map(|encoding| encoding.get_ids().to_vec()).collect())
    }

    /// Encodes a row piece by piece, so that the first piece has the tokens that the same prompt has in generation,
    /// and no token lies across the border between what is trained on and what is not.
    ///
    /// # Errors
    /// Where the library refuses a text.
    pub fn encode_pieces(&self, pieces: &[Piece]) -> Result<Encoded, TextError> {
        let mut row = Encoded::default();
        for piece in pieces {
            let ids =
                if row.ids.is_empty() { self.encode(&piece.text) } else { self.encode_continuation(&piece.text) }?;
            row.trained.resize(row.ids.len() + ids.len(), piece.trained);
            row.ids.extend(ids);
        }
        Ok(row)
    }

    /// Encodes a text that goes on after another: as [`Self::encode`], but without the space that some tokenizers put
    /// ahead of every text.
    ///
    /// # Errors
    /// Where the library refuses the text.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>, TextError> {
        if let Continuation::AfterNewline(newline) = &self.continuation {
            let ids = self.encode(&format!("\n{text}"))?;
            if let Some(rest) = ids.strip_prefix(newline.as_slice()) {
                return Ok(rest.to_vec());
            }
        }
        self.encode(text)
    }

    /// The text of these tokens, special ones left out.
    ///
    /// # Errors
    /// Where the library refuses the ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.engine.decode(ids, true).map_err(|error| TextError::Tokenizer(error.to_string()))
    }

    /// The text of these tokens, special ones spelled out: what the model sees.
    ///
    /// # Errors
    /// Where the library refuses the ids.
    pub fn spell(&self, ids: &[u32]) -> Result<String, TextError> {
        self.engine.decode(ids, false).map_err(|error| TextError::Tokenizer(error.to_string()))
    }

    /// The token of an id as the vocabulary spells it (`Ġthe`, `<|im_end|>`).
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.engine.id_to_token(id)
    }

    /// The token that begins a text.
    pub fn bos_token_id(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text or a turn, as the tokenizer's own file names it: what a trained answer ends with.
    pub fn eos_token_id(&self) -> Option<u32> {
        self.eos
    }

    /// All tokens that end generation, ascending: those of generation_config.json, config.json and the tokenizer.
    pub fn eos_token_ids(&self) -> &[u32] {
        &self.ends
    }

    /// The token that fills up rows, where the model has one.
    pub fn pad_token_id(&self) -> Option<u32> {
        self.pad
    }

    /// Number of tokens, added ones among them. The model's embedding may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.engine.get_vocab_size(true)
    }

    /// Whether this tokenizer, used as its makers do, puts the begin token ahead of every text: `add_bos_token` of
    /// tokenizer_config.json where that is said, else the post-processor of tokenizer.json.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Source of the model's chat template.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// Text of the begin token, empty where there is none.
    pub(crate) fn bos_text(&self) -> String {
        self.bos.and_then(|id| self.token_text(id)).unwrap_or_default()
    }

    /// Text of the end token, empty where there is none.
    pub(crate) fn eos_text(&self) -> String {
        self.eos.and_then(|id| self.token_text(id)).unwrap_or_default()
    }

    /// Texts of all special tokens, longest first.
    pub(crate) fn special_texts(&self) -> Vec<String> {
        let added = self.engine.get_added_tokens_decoder();
        let mut texts: Vec<String> = added.into_values().filter(|t| t.special).map(|t| t.content).collect();
        texts.extend(self.ends.iter().filter_map(|&id| self.token_text(id)));
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        texts.dedup();
        texts
    }
}
