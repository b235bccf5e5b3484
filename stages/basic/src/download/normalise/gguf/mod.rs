//! GGUF files of Llama models, converted into the Hugging Face layout.
//!
//! [`reader`] reads the file's own description of itself, [`config`] and [`tokenizer`] turn metadata into JSON files,
//! [`tensors`] names the weights, [`blocks`] unpacks quantised numbers, [`weights`] writes them. The values are those that
//! the file holds, bit for bit: nothing is rounded on the way.

mod blocks;
mod config;
mod reader;
mod tensors;
mod tokenizer;
mod weights;

use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::worker::{Job, write_json};
use serde_json::Value;

use super::{figures, place};
use crate::download::Halt;
use crate::download::rows::map;
use crate::download::source::SourceFile;
use reader::Gguf;

/// Writes the model that a GGUF file holds.
///
/// # Errors
/// A damaged file, another architecture, or a number format that is not known.
pub fn convert(job: &Job, file: &SourceFile, out: &Path) -> Result<Metrics, Halt> {
    let named = |what: String| Failure::data(format!("{}: {what}", file.name));
    let bytes = map(&file.path)?;
    let gguf = Gguf::read(&bytes).map_err(|error| named(error.to_string()))?;
    let plan = tensors::plan(&gguf).map_err(|error| named(error.to_string()))?;
    let stem = file.name.rsplit('/').next().unwrap_or(&file.name).trim_end_matches(".gguf");
    let config = config::config(&gguf, &plan, stem).map_err(|error| named(error.to_string()))?;
    let tokenizer = tokenizer::tokenizer(&gguf).map_err(|error| named(error.to_string()))?;

    write_compact(&out.join("tokenizer.json"), &tokenizer.tokenizer)?;
    write_json(&out.join("tokenizer_config.json"), &tokenizer.config)?;
    write_json(&out.join("config.json"), &config)?;
    write_json(&out.join("generation_config.json"), &config::generation(&gguf))?;
    let weights = out.join("model.safetensors");
    let written = weights::write(job, &plan, &weights)?;
    place::plain_mode(&weights)?;
    Ok(figures([
        ("parameters", Value::from(written.parameters)),
        ("weights_bytes", Value::from(written.bytes)),
        ("dtype", Value::from(plan.dtype_name())),
        ("stored_as", plan.stored_as()),
    ]))
}

/// A tokenizer has hundreds of thousands of entries; a line each would only cost room.
fn write_compact(path: &Path, value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_vec(value).map_err(|error| Failure::internal(format!("{}: {error}", path.display())))?;
    std::fs::write(path, text).map_err(|error| neftpipe_protocol::worker::io_failure("write", path, &error))
}
