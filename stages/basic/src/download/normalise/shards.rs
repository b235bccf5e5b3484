//! Whether safetensors files are whole: header and data agree with the file's size, and every shard of an index is there.

use std::collections::BTreeSet;
use std::fs;

use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::download::rows::map;
use crate::download::source::SourceFile;

/// Checks one file. Returns its number of parameters.
///
/// # Errors
/// A file that is cut short, or is no safetensors file.
pub fn check(file: &SourceFile) -> Result<u64, Failure> {
    let name = &file.name;
    let bytes = map(&file.path)?;
    let stated = bytes.get(..8).and_then(|prefix| prefix.try_into().ok()).map(u64::from_le_bytes);
    let has = bytes.len() as u64;
    match stated {
        Some(header) if header.checked_add(8).is_some_and(|end| end <= has) => {}
        Some(header) => {
            return Err(truncated(name, &format!("its header should be {header} bytes long and the file has {has}")));
        }
        None => return Err(truncated(name, &format!("it has {has} bytes"))),
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| match error {
        safetensors::SafeTensorError::MetadataIncompleteBuffer => {
            truncated(name, &format!("its {has} bytes are not those that its header tells of"))
        }
        other => Failure::data(format!("{name}: not a safetensors file: {other}")),
    })?;
    Ok(tensors.iter().map(|(_, tensor)| tensor.shape().iter().product::<usize>() as u64).sum())
}

fn truncated(name: &str, what: &str) -> Failure {
    Failure::data(format!("{name} is truncated or damaged: {what}")).with_hint("download it again")
}

/// Names of the shards of an index.
///
/// # Errors
/// An index that cannot be read.
pub fn of_index(index: &SourceFile) -> Result<BTreeSet<String>, Failure> {
    let text = fs::read(&index.path).map_err(|error| io_failure("read", &index.path, &error))?;
    let bad = |what: String| Failure::data(format!("{}: not an index of shards: {what}", index.name));
    let json: Value = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    let map = json.get("weight_map").and_then(Value::as_object).ok_or_else(|| bad("no weight_map".to_owned()))?;
    map.values()
        .map(|shard| shard.as_str().map(str::to_owned).ok_or_else(|| bad("a shard's name is no text".to_owned())))
        .collect()
}
