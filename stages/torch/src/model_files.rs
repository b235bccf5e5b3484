//! A whole model in the files of transformers, as fine-tuning or merging leaves it.

use std::fs;
use std::path::{Path, PathBuf};

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::{io_failure, write_json};
use serde_json::Value;
use tch::Kind;

use crate::model::Llama;
use crate::tensor_file;

/// Writes all weights in a number format, `config.json` and the files beside them: what `transformers` loads.
///
/// # Errors
/// Where a file cannot be read or written.
pub fn write_model(base: &Path, model: &Llama, kind: Kind, folder: &Path) -> Result<(), Failure> {
    let weights: Vec<_> = model.weights().into_iter().map(|(name, it)| (name, it.detach().to_kind(kind))).collect();
    tensor_file::write(&folder.join("model.safetensors"), &weights)?;
    write_config(&base.join("config.json"), kind, folder)?;
    copy_companions(base, folder)
}

/// The base's configuration, with the number format that is now stored.
fn write_config(base: &Path, kind: Kind, folder: &Path) -> Result<(), Failure> {
    let text = fs::read(base).map_err(|error| io_failure("read", base, &error))?;
    let mut config: Value =
        serde_json::from_slice(&text).map_err(|error| Failure::data(format!("{}: {error}", base.display())))?;
    let format = if kind == Kind::BFloat16 { "bfloat16" } else { "float32" };
    if let Some(config) = config.as_object_mut() {
        let spelling = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
        config.insert(spelling.to_owned(), Value::from(format));
    }
    write_json(&folder.join("config.json"), &config)
}

/// Copies the tokenizer, the chat template and the generation settings, and what else stands beside the weights.
fn copy_companions(base: &Path, folder: &Path) -> Result<(), Failure> {
    let read = |error| io_failure("read", base, &error);
    let entries = fs::read_dir(base).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
    let paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    for path in paths.iter().filter(|path| path.is_file()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let made_here = name == "config.json" || OURS.contains(&name);
        if !made_here && !name.ends_with(".safetensors") && !name.ends_with(".safetensors.index.json") {
            let to = folder.join(name);
            fs::copy(path, &to).map_err(|error| io_failure("write", &to, &error))?;
        }
    }
    Ok(())
}

/// Files that a run writes itself, and which a base that was fine-tuned here has too.
const OURS: [&str; 3] = [crate::lora::INFO_FILE, "steps.jsonl", "metrics.json"];
