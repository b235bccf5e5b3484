//! Answers in AlpacaEval's form: a list of {instruction, output, generator, …} becomes `answers.json`.
//!
//! Fields that this program does not know are kept, so that the original tools find what they left.

use std::ops::ControlFlow;
use std::path::Path;

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::{AnswerRow, Metrics};
use neftpipe_protocol::params::DownloadParams;
use neftpipe_protocol::params::download::Columns;
use neftpipe_protocol::worker::{Job, write_json};
use serde_json::Value;

use super::dataset::row_files;
use super::{figures, list};
use crate::download::Halt;
use crate::download::rows::{self, At, get};
use crate::download::source::SourceFile;

/// Writes the answers.
///
/// # Errors
/// No rows, or rows that lack a field.
pub fn write(job: &Job, params: &DownloadParams, files: &[SourceFile], out: &Path) -> Result<Metrics, Halt> {
    let files = row_files(files)?;
    let columns = params.columns.clone().unwrap_or_default();
    let limit = params.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut answers = Vec::new();
    for file in &files {
        let ended = rows::read(file, &mut |at, row| {
            answers.push(answer(&columns, at, row)?);
            Ok(if answers.len() >= limit || job.should_stop() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        if job.should_stop() {
            return Err(Halt::Interrupted);
        }
        if ended.is_break() {
            break;
        }
    }
    if answers.is_empty() {
        return Err(Failure::data(format!("there are no answers: no row in {}", list(&files))).into());
    }
    write_json(&out.join("answers.json"), &answers)?;
    Ok(figures([("rows", Value::from(answers.len()))]))
}

fn answer(columns: &Columns, at: At, row: Value) -> Result<Value, Failure> {
    let renamed = [
        ("instruction", &columns.instruction),
        ("input", &columns.input),
        ("output", &columns.output),
        ("reference", &columns.reference),
    ];
    let found: Vec<_> = renamed
        .into_iter()
        .filter_map(|(name, path)| Some((name, get(&row, path.as_deref()?).cloned().unwrap_or_default())))
        .collect();
    let Value::Object(mut map) = row else { return Err(at.malformed("an object is wanted")) };
    found.into_iter().for_each(|(name, value)| {
        map.insert(name.to_owned(), value);
    });
    if let Some(field) =
        ["instruction", "output", "generator"].into_iter().find(|&field| map.get(field) == Some(&Value::Null))
    {
        return Err(at.malformed(format_args!("`{field}` is null, and a text is wanted")));
    }
    map.retain(|_, value| !value.is_null());
    let row = Value::Object(map);
    serde_json::from_value::<AnswerRow>(row.clone()).map_err(|error| at.malformed(error))?;
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_are_kept_and_known_ones_checked() {
        let at = At { file: "f", row: 2 };
        let row = json!({"instruction": "i", "output": "o", "generator": "g", "input": null, "datasplit": "eval"});
        let kept = answer(&Columns::default(), at, row).unwrap();
        assert_eq!(kept, json!({"instruction": "i", "output": "o", "generator": "g", "datasplit": "eval"}));
        let message = answer(&Columns::default(), at, json!({"instruction": "i", "output": "o"})).unwrap_err().message;
        assert!(message.contains("row 2") && message.contains("generator"), "{message}");
        let row = json!({"instruction": "i", "output": null, "generator": "g"});
        let message = answer(&Columns::default(), at, row).unwrap_err().message;
        assert!(message.contains("row 2") && message.contains("`output` is null"), "{message}");
        let columns = Columns { output: Some("o".into()), ..Columns::default() };
        let row = json!({"instruction": "i", "o": "text", "generator": "g"});
        assert_eq!(answer(&columns, at, row).unwrap()["output"], "text");
    }
}
