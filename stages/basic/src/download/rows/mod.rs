//! Rows of JSON, JSONL, Parquet and YAML files, as JSON values, one after the other.
//!
//! Nothing here knows what a row means. Files are read by the ending of their names:
//! `.jsonl` and `.ndjson` hold a value a line; `.json` holds a list, an object with the list under `data` or
//! `conversations`, or values one after the other; `.yml` and `.yaml` hold what `.json` may hold, every scalar taken as the
//! text that is written; `.parquet` holds records.

mod columns;
mod json;
mod parquet;
mod yaml;

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use memmap2::Mmap;
use neftpipe_protocol::Failure;
use neftpipe_protocol::worker::io_failure;
use serde_json::Value;

pub use columns::{get, text, texts};

use super::source::SourceFile;

/// Where a row stands, for messages.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The file's name inside the source.
    pub file: &'a str,
    /// Counted from 1.
    pub row: u64,
}

impl At<'_> {
    /// The failure of a row that is not what it should be.
    pub fn malformed(&self, what: impl std::fmt::Display) -> Failure {
        Failure::data(format!("{}: row {}: {what}", self.file, self.row))
    }
}

/// Takes one row; breaks when it has enough.
pub type Each<'a> = dyn FnMut(At, Value) -> Result<ControlFlow<()>, Failure> + 'a;

/// How the rows of a file are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Storage {
    /// Parquet.
    Parquet,
    /// A JSON value a line.
    JsonLines,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Storage {
    /// By the file's name; none where it holds no rows.
    pub fn of(name: &str) -> Option<Self> {
        // Descriptions that stand beside data sets on the hub.
        const NOT_ROWS: [&str; 4] = ["dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"];
        let base = name.rsplit('/').next().unwrap_or(name);
        if NOT_ROWS.contains(&base) || base.starts_with('.') {
            return None;
        }
        match base.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "parquet" => Some(Self::Parquet),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "json" => Some(Self::Json),
            "yml" | "yaml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Gives every row of a file to `each`.
///
/// # Errors
/// A file that cannot be read or is not what its name says, and what `each` returns.
pub fn read(file: &SourceFile, each: &mut Each) -> Result<ControlFlow<()>, Failure> {
    let name = file.name.as_str();
    match Storage::of(name) {
        Some(Storage::Parquet) => parquet::read(name, &file.path, each),
        Some(Storage::JsonLines) => json::read_lines(name, utf8(name, &map(&file.path)?)?, each),
        Some(Storage::Json) => json::read(name, utf8(name, &map(&file.path)?)?, each),
        Some(Storage::Yaml) => yaml::read(name, utf8(name, &map(&file.path)?)?, each),
        None => Err(Failure::data(format!("{name}: rows are read from .json, .jsonl, .parquet, .yml and .yaml files"))),
    }
}

/// A file's bytes.
///
/// # Errors
/// Where it cannot be read.
pub fn map(path: &Path) -> Result<Mmap, Failure> {
    let file = File::open(path).map_err(|error| io_failure("read", path, &error))?;
    // SAFETY: the file is this attempt's own, a blob of the hub's cache, or a local source, which must not be edited
    // while a stage reads it: the runner throws the result away where it was.
    unsafe { Mmap::map(&file) }.map_err(|error| io_failure("read", path, &error))
}

fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let from =
            if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) { "utf16" } else { "latin1" };
        Failure::data(format!("{name}: not UTF-8 text: the byte at offset {} fits no character", error.valid_up_to()))
            .with_hint(format!("convert the file, for example with `iconv -f {from} -t utf8`"))
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The rows of a value that holds them: a list, or an object with the list under `data` or `conversations`.
/// An object that is a row itself is the only one.
fn rows_of(value: Value) -> Vec<Value> {
    match value {
        Value::Array(rows) => rows,
        Value::Object(mut map) => match ["data", "conversations"].into_iter().find(|key| is_row_list(map.get(*key))) {
            Some(key) => match map.shift_remove(key) {
                Some(Value::Array(rows)) => rows,
                _ => Vec::new(),
            },
            None => vec![Value::Object(map)],
        },
        other => vec![other],
    }
}

/// A list of rows, and not the turns of one conversation ({from, value} or {role, content}).
fn is_row_list(value: Option<&Value>) -> bool {
    let Some(Value::Array(items)) = value else { return false };
    !items.first().is_some_and(|first| first.get("from").is_some() || first.get("role").is_some())
}

fn give(name: &str, rows: impl IntoIterator<Item = Value>, each: &mut Each) -> Result<ControlFlow<()>, Failure> {
    for (row, value) in (1..).zip(rows) {
        if each(At { file: name, row }, value)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endings_tell_the_storage() {
        assert_eq!(Storage::of("data/train-0.PARQUET"), Some(Storage::Parquet));
        assert_eq!(Storage::of("a.b.yml"), Some(Storage::Yaml));
        for none in ["README.md", "json", "d/dataset_infos.json", ".hidden.json"] {
            assert_eq!(Storage::of(none), None, "{none}");
        }
    }

    #[test]
    fn rows_may_be_wrapped() {
        assert_eq!(rows_of(json!({"data": [1, 2]})), [json!(1), json!(2)]);
        assert_eq!(rows_of(json!({"categories": ["x"], "conversations": [["q", "a"]]})), [json!(["q", "a"])]);
        let one = json!({"conversations": [{"from": "human", "value": "q"}]});
        assert_eq!(rows_of(one.clone()), [one]);
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_with_its_offset() {
        let message = utf8("x.json", b"ab\xffc").unwrap_err().message;
        assert!(message.contains("x.json") && message.contains("offset 2"), "{message}");
    }
}
