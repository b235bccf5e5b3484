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
use reader::{Gguf, GgufError};
use tensors::Plan;
use tokenizer::Tokenizer;

/// Writes the model that a GGUF file holds.
///
/// # Errors
/// A damaged file, another architecture, or a number format that is not known.
pub fn convert(job: &Job, file: &SourceFile, out: &Path) -> Result<Metrics, Halt> {
    let bytes = map(&file.path)?;
    let stem = file.name.rsplit('/').next().unwrap_or(&file.name).trim_end_matches(".gguf");
    let Read { plan, config, generation, tokenizer } =
        read(&bytes, stem).map_err(|error| Failure::data(format!("{}: {error}", file.name)))?;
    write_compact(&out.join("tokenizer.json"), &tokenizer.tokenizer)?;
    write_json(&out.join("tokenizer_config.json"), &tokenizer.config)?;
    write_json(&out.join("config.json"), &config)?;
    write_json(&out.join("generation_config.json"), &generation)?;
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

/// All that a file says of its model, before a weight is unpacked.
struct Read<'a> {
    plan: Plan<'a>,
    config: Value,
    generation: Value,
    tokenizer: Tokenizer,
}

fn read<'a>(bytes: &'a [u8], name: &str) -> Result<Read<'a>, GgufError> {
    let gguf = Gguf::read(bytes)?;
    let plan = tensors::plan(&gguf)?;
    let config = config::config(&gguf, &plan, name)?;
    Ok(Read { config, generation: config::generation(&gguf), tokenizer: tokenizer::tokenizer(&gguf)?, plan })
}

/// A tokenizer has hundreds of thousands of entries; a line each would only cost room.
fn write_compact(path: &Path, value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_vec(value).map_err(|error| Failure::internal(format!("{}: {error}", path.display())))?;
    std::fs::write(path, text).map_err(|error| neftpipe_protocol::worker::io_failure("write", path, &error))
}

#[cfg(test)]
#[path = "../../../../tests/download/gguf_file.rs"]
mod gguf_file;

#[cfg(test)]
mod tests {
    use super::gguf_file::{F32, layer, metadata, quantised};
    use super::*;

    /// Every byte of the header in turn is another one. The file may still be read; it must not be a panic.
    #[test]
    fn no_wrong_byte_makes_the_reader_panic() {
        let whole = quantised(layer(metadata(), F32, 1.0));
        let header = whole.bytes().len() - whole.data.len();
        let mut bytes = whole.bytes();
        assert!(read(&bytes, "x").is_ok());
        let mut refused = 0;
        for at in 0..header {
            let right = bytes[at];
            for wrong in [0, 1, 127, 128, 255, right ^ 1, right.wrapping_add(1)] {
                bytes[at] = wrong;
                refused += u32::from(read(&bytes, "x").is_err());
            }
            bytes[at] = right;
        }
        assert!(refused > 1000, "{refused}");
    }

    #[test]
    fn no_cut_of_the_header_makes_the_reader_panic() {
        let whole = quantised(layer(metadata(), F32, 1.0));
        let bytes = whole.bytes();
        for cut in 0..bytes.len() - whole.data.len() {
            assert!(read(&bytes[..cut], "x").is_err(), "{cut}");
        }
    }
}
