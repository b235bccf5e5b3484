//! What files are, where the pipeline file does not say it; and which files of a repository an artifact needs.
//!
//! The first that fits: `as`; a `format` means a dataset; `adapter_config.json` an adapter; `config.json` or a `.gguf` file
//! a model; files of rows whose first row has `instruction`, `output` and `generator` answers; whose first row has the
//! shape of a dataset format a dataset; else files.

use std::ops::ControlFlow;

use neftpipe_protocol::Failure;
use neftpipe_protocol::params::DownloadParams;
use neftpipe_protocol::params::download::{DatasetFormat, DownloadAs};
use serde_json::Value;

use super::model;
use crate::download::rows::{self, Storage};
use crate::download::source::SourceFile;

/// What the files are.
///
/// # Errors
/// Files of rows whose first row cannot be read.
pub fn identify(params: &DownloadParams, files: &[SourceFile]) -> Result<DownloadAs, Failure> {
    if let Some(artifact) = params.artifact {
        return Ok(artifact);
    }
    if params.format.is_some() {
        return Ok(DownloadAs::Dataset);
    }
    let has = |name: &str| files.iter().any(|file| base(&file.name) == name);
    if has("adapter_config.json") {
        return Ok(DownloadAs::Adapter);
    }
    if has("config.json") || files.iter().any(|file| file.name.ends_with(".gguf")) {
        return Ok(DownloadAs::Model);
    }
    if !files.iter().all(|file| Storage::of(&file.name).is_some()) {
        return Ok(DownloadAs::Files);
    }
    let first = first_row(files)?;
    let has = |key: &str| first.as_ref().and_then(|row| row.get(key)).is_some();
    Ok(match &first {
        Some(_) if has("instruction") && has("output") && has("generator") => DownloadAs::Answers,
        Some(row) if format_of(row).is_some() => DownloadAs::Dataset,
        _ => DownloadAs::Files,
    })
}

/// The dataset format that a row has the shape of.
pub fn format_of(row: &Value) -> Option<DatasetFormat> {
    let is_text = |key: &str| row.get(key).is_some_and(Value::is_string);
    let is_list = |key: &str| row.get(key).is_some_and(Value::is_array);
    match row {
        Value::Array(items) if items.len() >= 2 && items.iter().all(Value::is_string) => Some(DatasetFormat::Pairs),
        _ if is_list("conversations") => Some(DatasetFormat::Sharegpt),
        _ if is_list("messages") => Some(DatasetFormat::Messages),
        _ if is_text("instruction") && is_text("output") => Some(DatasetFormat::Alpaca),
        _ => None,
    }
}

/// The first row of the first file that has one.
///
/// # Errors
/// A file that cannot be read.
pub fn first_row(files: &[SourceFile]) -> Result<Option<Value>, Failure> {
    let mut first = None;
    for file in files.iter().filter(|file| Storage::of(&file.name).is_some()) {
        let ended = rows::read(file, &mut |_, row| {
            first = Some(row);
            Ok(ControlFlow::Break(()))
        })?;
        if ended.is_break() {
            break;
        }
    }
    Ok(first)
}

/// The names of a repository's files that an artifact needs, where `select` does not say it.
///
/// A model or an adapter: its own files at the top. Rows: of the ways to store them, the first of Parquet, JSON lines,
/// JSON and YAML that the repository has. Anything else: all.
///
/// # Errors
/// A model whose weights are pickles.
pub fn narrow(source: &str, artifact: Option<DownloadAs>, names: &[String]) -> Result<Vec<String>, Failure> {
    let keep = |takes: &dyn Fn(&str) -> bool| names.iter().filter(|name| takes(name)).cloned().collect::<Vec<_>>();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    Ok(match artifact {
        Some(DownloadAs::Files) => names.to_vec(),
        Some(DownloadAs::Adapter) => keep(&|name| name.starts_with("adapter_") || name == "neftpipe.json"),
        None if has("adapter_config.json") => keep(&|name| name.starts_with("adapter_") || name == "neftpipe.json"),
        Some(DownloadAs::Model) => model_names(source, names)?,
        None if has("config.json") => model_names(source, names)?,
        Some(DownloadAs::Dataset | DownloadAs::Prompts | DownloadAs::Answers) => {
            match names.iter().filter_map(|name| Storage::of(name)).min() {
                Some(first) => keep(&|name| Storage::of(name) == Some(first)),
                None => names.to_vec(),
            }
        }
        None => names.to_vec(),
    })
}

fn model_names(source: &str, names: &[String]) -> Result<Vec<String>, Failure> {
    let needed: Vec<String> = names.iter().filter(|name| model::belongs(name)).cloned().collect();
    let is_weights = |name: &String| name.ends_with(".safetensors") || name.ends_with(".gguf");
    if needed.iter().any(is_weights) {
        return Ok(needed);
    }
    match names.iter().find(|name| model::is_pickle(name)) {
        Some(pickle) => Err(model::refuse_pickle(&format!("{source}: {pickle}"))),
        // A repository of GGUF files alone: there are several to choose from, and normalising says so.
        None => Ok(names.iter().filter(|name| name.ends_with(".gguf") || model::belongs(name)).cloned().collect()),
    }
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn rows_tell_their_format() {
        assert_eq!(format_of(&json!({"instruction": "i", "output": "o"})), Some(DatasetFormat::Alpaca));
        assert_eq!(format_of(&json!({"conversations": []})), Some(DatasetFormat::Sharegpt));
        assert_eq!(format_of(&json!({"messages": []})), Some(DatasetFormat::Messages));
        assert_eq!(format_of(&json!(["q", "a"])), Some(DatasetFormat::Pairs));
        assert_eq!(format_of(&json!({"text": "t"})), None);
    }

    #[test]
    fn a_model_repository_is_narrowed_to_its_own_files() {
        let all = names(&[
            "README.md",
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "original/consolidated.00.pth",
            "onnx/model.onnx",
            "pytorch_model.bin",
        ]);
        let kept = narrow("hf:a/b", None, &all).unwrap();
        assert_eq!(kept, ["config.json", "model.safetensors", "tokenizer.json"]);
        assert_eq!(narrow("hf:a/b", Some(DownloadAs::Files), &all).unwrap(), all);
        let pickled = names(&["config.json", "pytorch_model.bin"]);
        assert!(narrow("hf:a/b", None, &pickled).unwrap_err().message.contains("pytorch_model.bin"));
    }

    #[test]
    fn a_dataset_repository_is_narrowed_to_one_storage() {
        let all = names(&["README.md", "dataset_infos.json", "data/train-0.parquet", "raw.json"]);
        assert_eq!(narrow("s", Some(DownloadAs::Dataset), &all).unwrap(), ["data/train-0.parquet"]);
        assert_eq!(narrow("s", Some(DownloadAs::Dataset), &names(&["README.md", "x.json"])).unwrap(), ["x.json"]);
    }
}
