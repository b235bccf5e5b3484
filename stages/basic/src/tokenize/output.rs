//! The files of the outputs, and samples of them as events.

use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::{PreviewPiece, PromptRow, TokensInfo};
use neftpipe_protocol::event::EventBody;
use neftpipe_protocol::worker::{Job, io_failure, write_json};
use neftpipe_text::{TextError, Tokenizer};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::encode::Tokens;
use super::splits::Splits;
use crate::jsonl;

/// Training rows that `preview.jsonl` holds.
const PREVIEW_ROWS: usize = 20;
/// Training rows that are told as events.
const SAMPLE_ROWS: usize = 3;

/// Writes the output `tokens`, and tells a few of its rows.
///
/// # Errors
/// Where a file cannot be written.
pub fn write_tokens(job: &Job, tokenizer: &Tokenizer, splits: &Splits, info: &TokensInfo) -> Result<(), Failure> {
    let folder = job.output("tokens")?;
    write_split(&folder.join("train.safetensors"), &splits.train.tokens)?;
    write_split(&folder.join("heldout.safetensors"), &splits.heldout.tokens)?;
    write_json(&folder.join("tokens.json"), info)?;
    let shown = PREVIEW_ROWS.min(info.train.rows as usize);
    let rows = (0..shown).map(|index| preview(tokenizer, splits.train.tokens.row(index)));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    for pieces in rows.iter().take(SAMPLE_ROWS) {
        job.emit(EventBody::Sample { value: json!({ "split": "train", "pieces": pieces }) });
    }
    jsonl::write(&folder.join("preview.jsonl"), &rows)
}

/// Writes an output of prompts.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_prompts(job: &Job, output: &str, prompts: &[PromptRow]) -> Result<(), Failure> {
    jsonl::write(&job.output(output)?.join("prompts.jsonl"), prompts)
}

/// `input_ids` (i32), `trained` (u8), `offsets` (i64, rows + 1).
fn write_split(path: &Path, tokens: &Tokens) -> Result<(), Failure> {
    // Ids are far below 2^31, so an unsigned id and a signed one have the same bytes.
    let ids: Vec<u8> = tokens.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let trained: Vec<u8> = tokens.trained.iter().map(|&flag| u8::from(flag)).collect();
    let offsets: Vec<u8> = tokens.offsets.iter().flat_map(|&offset| (offset as i64).to_le_bytes()).collect();
    let tensors = [
        ("input_ids", Dtype::I32, tokens.ids.len(), &ids),
        ("trained", Dtype::U8, tokens.trained.len(), &trained),
        ("offsets", Dtype::I64, tokens.offsets.len(), &offsets),
    ];
    let views = tensors.map(|(name, dtype, length, bytes)| {
        (name, TensorView::new(dtype, vec![length], bytes).expect("as many bytes as the shape says"))
    });
    safetensors::serialize_to_file(views, None, path).map_err(|error| match error {
        SafeTensorError::IoError(error) => io_failure("write", path, &error),
        other => Failure::internal(format!("{}: {other}", path.display())),
    })
}

/// A row as the model sees it: pieces of trained and other tokens, special tokens spelled out.
///
/// Texts are differences of growing prefixes, because some tokenizers spell the first token of a text in another way.
fn preview(tokenizer: &Tokenizer, (ids, trained): (&[u32], &[bool])) -> Result<Vec<PreviewPiece>, TextError> {
    let mut pieces = Vec::new();
    let mut before = String::new();
    let mut end = 0;
    for run in trained.chunk_by(|a, b| a == b) {
        let start = end;
        end += run.len();
        let through = tokenizer.spell(&ids[..end])?;
        let text = match through.strip_prefix(&before) {
            Some(rest) => rest.to_owned(),
            None => tokenizer.spell(&ids[start..end])?,
        };
        pieces.push(PreviewPiece { text, trained: run[0] });
        before = through;
    }
    Ok(pieces)
}
