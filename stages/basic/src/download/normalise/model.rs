//! A model: files in the Hugging Face layout are taken as they are, a GGUF file is converted into that layout.
//!
//! Weights come from safetensors or GGUF. Pickles run code when they are loaded, so they are refused by name.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::worker::{Job, io_failure};
use serde_json::Value;

use super::{figures, gguf, lacking, place, shards};
use crate::download::Halt;
use crate::download::source::SourceFile;

/// Files of the layout besides the weights.
const DESCRIPTION: [&str; 10] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "model.safetensors.index.json",
    "neftpipe.json",
];
const INDEX: &str = "model.safetensors.index.json";

/// Whether a file with this name at the top of a repository belongs to a model.
pub fn belongs(name: &str) -> bool {
    DESCRIPTION.contains(&name) || (name.starts_with("model") && name.ends_with(".safetensors") && !name.contains('/'))
}

/// Whether a file's name is that of a pickle.
pub fn is_pickle(name: &str) -> bool {
    [".bin", ".pt", ".pth", ".ckpt", ".pkl"].iter().any(|ending| name.ends_with(ending))
}

/// The failure of weights that are a pickle.
pub fn refuse_pickle(name: &str) -> Failure {
    Failure::data(format!("{name} is a pickle, which runs code when it is loaded; it is refused"))
        .with_hint("take a repository with .safetensors or .gguf weights, or convert it where you trust it")
}

/// Writes the model.
///
/// # Errors
/// Files that are missing, damaged or refused.
pub fn write(job: &Job, files: &[SourceFile], out: &Path) -> Result<Metrics, Halt> {
    let ggufs: Vec<_> = files.iter().filter(|file| file.name.ends_with(".gguf")).collect();
    let has_safetensors = files.iter().any(|file| file.name.ends_with(".safetensors"));
    match ggufs.as_slice() {
        [gguf] if !has_safetensors => gguf::convert(job, gguf, out),
        [_, _, ..] if !has_safetensors => {
            let message = format!("there are {} .gguf files: {}", ggufs.len(), super::list(files));
            Err(Failure::data(message).with_hint("choose one with `select`").into())
        }
        _ => copy(job, files, out),
    }
}

/// Copies a model in the Hugging Face layout.
fn copy(job: &Job, files: &[SourceFile], out: &Path) -> Result<Metrics, Halt> {
    let config = files.iter().filter(|file| base(&file.name) == "config.json");
    let config = config.min_by_key(|file| file.name.matches('/').count());
    let config = config.ok_or_else(|| lacking("config.json", files))?;
    let root = config.name.strip_suffix("config.json").unwrap_or_default();
    let inside = |file: &&SourceFile| file.name.strip_prefix(root).is_some_and(belongs);
    let parts: Vec<_> = files.iter().filter(inside).collect();
    check_config(config)?;
    let (parameters, tensors) = check_weights(root, files, &parts)?;
    if !parts.iter().any(|file| base(&file.name) == "tokenizer.json") {
        return Err(no_tokenizer(root, files).into());
    }
    let mut bytes = 0;
    for part in parts {
        if job.should_stop() {
            return Err(Halt::Interrupted);
        }
        let is_weights = part.name.ends_with(".safetensors");
        if !is_weights || tensors.contains(base(&part.name)) {
            let put_bytes = place::put(part, out, base(&part.name))?;
            bytes += if is_weights { put_bytes } else { 0 };
        }
    }
    Ok(figures([("parameters", Value::from(parameters)), ("weights_bytes", Value::from(bytes))]))
}

/// Parameters and names of the files of weights, each of them whole.
fn check_weights(root: &str, files: &[SourceFile], parts: &[&SourceFile]) -> Result<(u64, BTreeSet<String>), Failure> {
    let wanted = match parts.iter().find(|file| base(&file.name) == INDEX) {
        Some(index) => shards::of_index(index)?,
        None => BTreeSet::from(["model.safetensors".to_owned()]),
    };
    let mut parameters = 0;
    for name in &wanted {
        let shard = parts.iter().find(|file| base(&file.name) == name);
        let shard = shard.ok_or_else(|| match files.iter().find(|file| is_pickle(&file.name)) {
            Some(pickle) if wanted.len() == 1 => refuse_pickle(&pickle.name),
            _ => lacking(&format!("{root}{name}"), files),
        })?;
        parameters += shards::check(shard)?;
    }
    Ok((parameters, wanted))
}

fn check_config(config: &SourceFile) -> Result<(), Failure> {
    let text = fs::read(&config.path).map_err(|error| io_failure("read", &config.path, &error))?;
    match serde_json::from_slice::<Value>(&text) {
        Ok(Value::Object(map)) if map.contains_key("model_type") => Ok(()),
        Ok(_) => Err(Failure::data(format!("{}: no model's configuration: `model_type` is missing", config.name))),
        Err(error) => Err(Failure::data(format!("{}: not JSON: {error}", config.name))),
    }
}

fn no_tokenizer(root: &str, files: &[SourceFile]) -> Failure {
    let failure = lacking(&format!("{root}tokenizer.json"), files);
    match files.iter().any(|file| base(&file.name) == "tokenizer.model") {
        true => failure.with_hint("tokenizer.model alone is not read: save the tokenizer with transformers once"),
        false => failure,
    }
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_model_are_known() {
        for name in ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", INDEX] {
            assert!(belongs(name), "{name}");
        }
        for name in ["README.md", "onnx/model.safetensors", "consolidated.safetensors", "pytorch_model.bin"] {
            assert!(!belongs(name), "{name}");
        }
        assert!(is_pickle("pytorch_model.bin") && !is_pickle("model.safetensors"));
    }
}
