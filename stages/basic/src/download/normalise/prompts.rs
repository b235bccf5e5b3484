//! Prompts: rows of {instruction, input?, reference?, dataset?} become `prompts.jsonl`.
//!
//! The reference is the field `reference`, else `output`, else that of `columns`; a row may lack it. With `format: pairs` the
//! further items of a list are its references. A row's `dataset` is kept.

use std::ops::ControlFlow;
use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::{Metrics, PromptRow};
use neftpipe_protocol::params::DownloadParams;
use neftpipe_protocol::params::download::{Columns, DatasetFormat};
use neftpipe_protocol::worker::Job;
use serde_json::Value;

use super::dataset::row_files;
use super::lines::Lines;
use super::{figures, list};
use crate::download::Halt;
use crate::download::rows::{self, At, text, texts};
use crate::download::source::SourceFile;

/// Writes the prompts.
///
/// # Errors
/// No rows, or rows without an instruction.
pub fn write(job: &Job, params: &DownloadParams, files: &[SourceFile], out: &Path) -> Result<Metrics, Halt> {
    let files = row_files(files)?;
    let columns = params.columns.clone().unwrap_or_default();
    let mut lines = Lines::create(job, out.join("prompts.jsonl"), params.limit)?;
    let mut with_reference = 0_u64;
    for file in &files {
        let ended = rows::read(file, &mut |at, row| {
            let prompt = prompt(params.format, &columns, at, &row)?;
            with_reference += u64::from(!prompt.reference.is_empty());
            lines.write(&prompt)
        })?;
        lines.check_stop()?;
        if ended == ControlFlow::Break(()) {
            break;
        }
    }
    let rows = lines.finish()?;
    if rows == 0 {
        return Err(Failure::data(format!("there are no prompts: no row in {}", list(&files))).into());
    }
    Ok(figures([("rows", Value::from(rows)), ("with_reference", Value::from(with_reference))]))
}

fn prompt(format: Option<DatasetFormat>, columns: &Columns, at: At, row: &Value) -> Result<PromptRow, Failure> {
    match format {
        None | Some(DatasetFormat::Alpaca | DatasetFormat::Evol) => fields(columns, at, row),
        Some(DatasetFormat::Pairs) => {
            let columns = Columns { instruction: Some("0".to_owned()), ..Columns::default() };
            let answers = row.as_array().and_then(|items| items.get(1..)).unwrap_or_default();
            let reference = texts(at, &Value::from(vec![answers.to_vec()]), "0")?;
            Ok(PromptRow { reference, ..fields(&columns, at, row)? })
        }
        Some(DatasetFormat::Sharegpt | DatasetFormat::Messages) => {
            Err(at.malformed("a conversation is no prompt; say with `columns` where the instruction is"))
        }
    }
}

fn fields(columns: &Columns, at: At, row: &Value) -> Result<PromptRow, Failure> {
    let path = columns.instruction.as_deref().unwrap_or("instruction");
    let instruction = text(at, row, path)?.ok_or_else(|| at.malformed(format_args!("field `{path}` is missing")))?;
    let input = text(at, row, columns.input.as_deref().unwrap_or("input"))?.unwrap_or_default();
    let reference = match columns.reference.as_deref().or(columns.output.as_deref()) {
        Some(path) => texts(at, row, path)?,
        None => match texts(at, row, "reference")? {
            none if none.is_empty() => texts(at, row, "output")?,
            found => found,
        },
    };
    Ok(PromptRow { instruction, input, reference, dataset: text(at, row, "dataset")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const AT: At = At { file: "f", row: 1 };

    fn reference(columns: &Columns, row: Value) -> Vec<String> {
        prompt(None, columns, AT, &row).unwrap().reference
    }

    #[test]
    fn the_reference_is_found() {
        let plain = Columns::default();
        assert_eq!(reference(&plain, json!({"instruction": "i", "output": "o"})), ["o"]);
        assert_eq!(reference(&plain, json!({"instruction": "i", "output": "o", "reference": ["r", "s"]})), ["r", "s"]);
        assert!(reference(&plain, json!({"instruction": "i"})).is_empty());
        let nested = Columns { reference: Some("instances.0.output".into()), ..Columns::default() };
        assert_eq!(reference(&nested, json!({"instruction": "i", "instances": [{"output": "o"}]})), ["o"]);
    }

    #[test]
    fn questions_of_other_shapes_are_read() {
        let columns = Columns { instruction: Some("turns.0".into()), ..Columns::default() };
        let found = prompt(None, &columns, AT, &json!({"turns": ["q", "later"]})).unwrap();
        assert_eq!((found.instruction.as_str(), found.reference.len()), ("q", 0));
        let found = prompt(Some(DatasetFormat::Pairs), &Columns::default(), AT, &json!(["q", "a", "b"])).unwrap();
        assert_eq!((found.instruction.as_str(), found.reference), ("q", vec!["a".to_owned(), "b".to_owned()]));
        assert!(prompt(None, &Columns::default(), AT, &json!({"question": "q"})).is_err());
    }
}
