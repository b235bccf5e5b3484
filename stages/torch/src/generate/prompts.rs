//! The prompts of a request: read, rendered, encoded, checked against the window, and named by what decides their answers.

use std::path::Path;

use neftpipe_protocol::artifact::PromptRow;
use neftpipe_protocol::params::{GenerateParams, StageParams, remove, resolve};
use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{Digest, Failure, KeyHasher, Kind};
use neftpipe_text::{Renderer, Tokenizer};
use serde_json::Value;

/// Name of the rows in a `prompts` artifact.
const FILE: &str = "prompts.jsonl";

/// A prompt as the model reads it.
pub struct Question {
    /// The row that it comes from.
    pub row: PromptRow,
    /// The rendered text.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<i32>,
    /// Names everything that its answer depends on.
    pub key: String,
}

/// Reads the rows of a `prompts` artifact.
///
/// # Errors
/// Where the file is missing, a line is no prompt, or there are none.
pub fn read(folder: &Path) -> Result<Vec<PromptRow>, Failure> {
    let path = folder.join(FILE);
    let text = std::fs::read_to_string(&path).map_err(|error| io_failure("read", &path, &error))?;
    let rows: Vec<PromptRow> = text
        .lines()
        .enumerate()
        .map(|(line, text)| {
            serde_json::from_str(text).map_err(|e| Failure::data(format!("{FILE}, row {}: {e}", line + 1)))
        })
        .collect::<Result<_, _>>()?;
    if rows.is_empty() { Err(Failure::data(format!("{FILE}: there are no prompts to answer"))) } else { Ok(rows) }
}

/// Renders and encodes the rows.
///
/// # Errors
/// The first row, by its number from 1, that cannot be rendered, is empty, or leaves no room in the model's window.
pub fn prepare(
    rows: Vec<PromptRow>,
    renderer: &Renderer,
    tokenizer: &Tokenizer,
    window_tokens: u64,
    keys: &RowKeys,
) -> Result<Vec<Question>, Failure> {
    let texts: Vec<String> = rows
        .iter()
        .enumerate()
        .map(|(place, row)| renderer.prompt(&row.instruction, &row.input).map_err(|e| in_row(place, Failure::from(e))))
        .collect::<Result<_, _>>()?;
    let encoded = tokenizer.encode_batch(&texts)?;
    rows.into_iter()
        .zip(texts)
        .zip(encoded)
        .enumerate()
        .map(|(place, ((row, text), ids))| {
            check_length(ids.len() as u64, window_tokens).map_err(|failure| in_row(place, failure))?;
            let key = keys.key(&text);
            Ok(Question { row, text, ids: ids.into_iter().map(|id| id as i32).collect(), key })
        })
        .collect()
}

fn check_length(tokens: u64, window_tokens: u64) -> Result<(), Failure> {
    if tokens == 0 {
        return Err(Failure::data("the prompt is empty"));
    }
    if tokens + 1 > window_tokens {
        return Err(Failure::data(format!(
            "the prompt has {tokens} tokens, and the model's window of {window_tokens} leaves no room to generate"
        ))
        .with_hint("leave the row out, shorten it, or take a model with a longer window"));
    }
    Ok(())
}

fn in_row(place: usize, failure: Failure) -> Failure {
    Failure { message: format!("{FILE}, row {}: {}", place + 1, failure.message), ..failure }
}

/// Names answers by all that they depend on, so that a row of an earlier attempt, or of a shorter list of prompts, is found
/// again: the implementation, the weights, the parameters and the rendered prompt.
pub struct RowKeys {
    model: Digest,
    adapter: Option<Digest>,
    params: Value,
}

impl RowKeys {
    /// Parameters that an answer feels only through its rendered prompt, or not at all.
    const NOT_IN_KEY: [&'static str; 3] = ["template", "date_string", "generator"];

    /// The names of answers of these weights under these parameters.
    pub fn new(model: Digest, adapter: Option<Digest>, params: &GenerateParams) -> Self {
        let full = serde_json::to_value(params).expect("parameters serialise");
        let mut params = resolve(GenerateParams::KIND, full).expect("typed parameters decode").key;
        Self::NOT_IN_KEY.iter().for_each(|path| remove(&mut params, path));
        Self { model, adapter, params }
    }

    fn key(&self, prompt: &str) -> String {
        let mut hasher = KeyHasher::new("neftpipe 2026 generated row v1");
        hasher.add(&u64::from(Kind::Generate.version())).add(&self.model).add(&self.params).add(prompt);
        if let Some(adapter) = &self.adapter {
            hasher.add(adapter);
        }
        hasher.finish().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(adapter: Option<&str>, params: GenerateParams, prompt: &str) -> String {
        RowKeys::new(Digest::of(b"m"), adapter.map(|text| Digest::of(text.as_bytes())), &params).key(prompt)
    }

    #[test]
    fn a_row_is_named_by_what_changes_its_answer_and_by_nothing_else() {
        let params = GenerateParams::default;
        let base = key(None, params(), "p");
        for same in [
            GenerateParams { batch_tokens: 7, ..params() },
            GenerateParams { seed: 7, ..params() },
            GenerateParams { generator: Some("me".to_owned()), ..params() },
        ] {
            assert_eq!(base, key(None, same, "p"));
        }
        for other in [
            key(None, params(), "q"),
            key(Some("a"), params(), "p"),
            key(None, GenerateParams { max_new_tokens: 7, ..params() }, "p"),
            key(None, GenerateParams { temperature: 0.5, ..params() }, "p"),
            key(None, GenerateParams { repetition_penalty: 1.2, ..params() }, "p"),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_prompt_leaves_room_for_a_token() {
        assert!(check_length(9, 10).is_ok());
        assert!(check_length(10, 10).unwrap_err().message.contains("no room to generate"));
        assert!(check_length(0, 10).is_err());
    }
}
