//! A dataset: rows of the known formats become `rows.jsonl`, counted in `dataset.json`.
//!
//! Equal rows are equal bytes, whatever files they came in: of those the record of the work tells, and not the artifact.
//!
//! A row that lacks a field or has another type in its place is an error that names file, row and field: the file is not
//! what the pipeline says. A row that is well-formed but cannot be trained on is dropped and counted, by reason.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::DatasetRow;
use neftpipe_protocol::params::DownloadParams;
use neftpipe_protocol::params::download::DatasetFormat;
use neftpipe_protocol::worker::{Job, write_json};
use serde::Serialize;
use serde_json::{Value, json};

use super::formats::{Converted, convert};
use super::lines::Lines;
use super::{Figures, figures, identify, list};
use crate::download::Halt;
use crate::download::rows::{self, Storage};
use crate::download::source::SourceFile;

/// `dataset.json`.
#[derive(Debug, Serialize)]
struct DatasetInfo {
    /// Rows written.
    rows: u64,
    /// Rows read and left out, by reason.
    dropped: BTreeMap<&'static str, u64>,
}

/// A file that rows were read from.
#[derive(Debug, Serialize)]
struct FileInfo {
    path: String,
    /// Rows written of it.
    rows: u64,
}

/// Writes the dataset.
///
/// # Errors
/// No rows, or rows that are not of the format.
pub fn write(job: &Job, params: &DownloadParams, files: &[SourceFile], out: &Path) -> Result<Figures, Halt> {
    let files = row_files(files)?;
    let format = format(params, &files)?;
    let mut lines = Lines::create(job, out.join("rows.jsonl"), params.limit)?;
    let mut info = DatasetInfo { rows: 0, dropped: BTreeMap::new() };
    let mut sources = Vec::new();
    for file in &files {
        let before = lines.written();
        let ended = read(params, format, file, &mut lines, &mut info.dropped)?;
        lines.check_stop()?;
        sources.push(FileInfo { path: file.name.clone(), rows: lines.written() - before });
        if ended.is_break() {
            break;
        }
    }
    info.rows = lines.finish()?;
    if info.rows == 0 {
        return Err(empty(&files, &info.dropped).into());
    }
    write_json(&out.join("dataset.json"), &info)?;
    let dropped = info.dropped.iter().map(|(&reason, &count)| (reason.to_owned(), Value::from(count))).collect();
    Ok(Figures {
        metrics: figures([("rows", Value::from(info.rows)), ("dropped", Value::Object(dropped))]),
        measured: figures([("format", json!(format)), ("files", json!(sources))]),
    })
}

fn read(
    params: &DownloadParams,
    format: DatasetFormat,
    file: &SourceFile,
    lines: &mut Lines,
    dropped: &mut BTreeMap<&'static str, u64>,
) -> Result<ControlFlow<()>, Failure> {
    let columns = params.columns.clone().unwrap_or_default();
    rows::read(file, &mut |at, row| match convert(format, &columns, at, &row)? {
        Converted::Rows(rows) => write_all(lines, &rows),
        Converted::Dropped(reason) => {
            *dropped.entry(reason).or_default() += 1;
            Ok(ControlFlow::Continue(()))
        }
    })
}

fn write_all(lines: &mut Lines, rows: &[DatasetRow]) -> Result<ControlFlow<()>, Failure> {
    for row in rows {
        if lines.write(row)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The files that hold rows.
///
/// # Errors
/// None does.
pub fn row_files(files: &[SourceFile]) -> Result<Vec<SourceFile>, Failure> {
    let rows: Vec<_> = files.iter().filter(|file| Storage::of(&file.name).is_some()).cloned().collect();
    if rows.is_empty() {
        return Err(Failure::data(format!(
            "no file of rows (.json, .jsonl, .parquet, .yml): there is {}",
            list(files)
        )));
    }
    Ok(rows)
}

fn format(params: &DownloadParams, files: &[SourceFile]) -> Result<DatasetFormat, Failure> {
    if let Some(format) = params.format {
        return Ok(format);
    }
    if params.columns.as_ref().is_some_and(|columns| columns.instruction.is_some() || columns.output.is_some()) {
        return Ok(DatasetFormat::Alpaca);
    }
    let Some(first) = identify::first_row(files)? else { return Err(empty(files, &BTreeMap::new())) };
    identify::format_of(&first).ok_or_else(|| {
        Failure::data(format!("{}: its first row has the shape of no dataset format", files[0].name)).with_hint(
            "say `format` (alpaca, sharegpt, messages, evol, pairs), and `columns` where fields have other names",
        )
    })
}

fn empty(files: &[SourceFile], dropped: &BTreeMap<&'static str, u64>) -> Failure {
    let reasons: Vec<_> = dropped.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let dropped = if reasons.is_empty() { String::new() } else { format!("; dropped: {}", reasons.join(", ")) };
    Failure::data(format!("the dataset is empty: no row is left of {}{dropped}", list(files)))
}
