//! A LoRA adapter as PEFT writes it: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Whether a model can use it is for the stage that loads it; here the files are only found whole.

use std::fs;
use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::worker::io_failure;
use serde_json::Value;

use super::{figures, lacking, model, place, shards};
use crate::download::Halt;
use crate::download::source::SourceFile;

/// The files of an adapter; the last is this program's own and may be missing.
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const OWN: &str = "neftpipe.json";

/// Writes the adapter.
///
/// # Errors
/// Files that are missing, damaged, or of another kind of adapter.
pub fn write(files: &[SourceFile], out: &Path) -> Result<Metrics, Halt> {
    let config = find(files, CONFIG).ok_or_else(|| lacking(CONFIG, files))?;
    let weights = find(files, WEIGHTS).ok_or_else(|| match files.iter().find(|file| model::is_pickle(&file.name)) {
        Some(pickle) => model::refuse_pickle(&pickle.name),
        None => lacking(WEIGHTS, files),
    })?;
    check_config(config)?;
    let parameters = shards::check(weights)?;
    place::put(config, out, CONFIG)?;
    let bytes = place::put(weights, out, WEIGHTS)?;
    if let Some(own) = find(files, OWN) {
        place::put(own, out, OWN)?;
    }
    Ok(figures([("parameters", Value::from(parameters)), ("weights_bytes", Value::from(bytes))]))
}

/// The file of this name that lies least deep.
fn find<'a>(files: &'a [SourceFile], name: &str) -> Option<&'a SourceFile> {
    let named = files.iter().filter(|file| file.name.rsplit('/').next() == Some(name));
    named.min_by_key(|file| file.name.matches('/').count())
}

fn check_config(config: &SourceFile) -> Result<(), Failure> {
    let text = fs::read(&config.path).map_err(|error| io_failure("read", &config.path, &error))?;
    let json: Value =
        serde_json::from_slice(&text).map_err(|error| Failure::data(format!("{}: not JSON: {error}", config.name)))?;
    match json.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => Ok(()),
        other => {
            let kind = other.unwrap_or("not said");
            Err(Failure::data(format!("{}: its peft_type is {kind}; only LORA adapters are taken", config.name)))
        }
    }
}
