//! Comparisons that somebody else had judged: an annotation file of AlpacaEval, taken as it is.

use std::collections::HashMap;
use std::path::PathBuf;

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::AnswerRow;
use neftpipe_protocol::judging::one_text;
use neftpipe_protocol::request::Input;
use neftpipe_protocol::worker::{Job, io_failure};

use super::annotate::AnnotationRow;
use super::files;

/// The annotations of an input, which must be one JSON file.
///
/// # Errors
/// Where there is no such file, or its rows are no annotations.
pub fn read(input: &Input) -> Result<Vec<AnnotationRow>, Failure> {
    let path = only_json(input)?;
    let bytes = std::fs::read(&path).map_err(|error| io_failure("read", &path, &error))?;
    let rows: Vec<AnnotationRow> = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::data(format!("{}: not a list of annotations: {error}", path.display())))?;
    if rows.is_empty() {
        return Err(Failure::data(format!("{}: there are no annotations", path.display())));
    }
    Ok(rows)
}

fn only_json(input: &Input) -> Result<PathBuf, Failure> {
    let found = files::with_extension(&input.path, "json")?;
    match found.as_slice() {
        [only] => Ok(only.clone()),
        several => Err(Failure::data(format!(
            "{} JSON files in {}, where one annotation file is wanted",
            several.len(),
            input.stage
        ))
        .with_hint("narrow `select` of its download to annotations.json")),
    }
}

/// The published annotations of these answers, in their order. A draw that is written as 0 stays what it is.
///
/// # Errors
/// Where an answer has none, or they are of another answer: both are counted.
pub fn annotations(job: &Job, answers: &[AnswerRow]) -> Result<Vec<AnnotationRow>, Failure> {
    let rows = read(job.input("annotations")?)?;
    let total = rows.len();
    let mut by_prompt: HashMap<String, AnnotationRow> = HashMap::with_capacity(total);
    for row in rows {
        by_prompt.insert(row.instruction.clone(), row);
    }
    if by_prompt.len() != total {
        let twice = total - by_prompt.len();
        return Err(Failure::data(format!("{twice} of the {total} annotations are of a prompt that another is of")));
    }
    let found: Vec<Option<AnnotationRow>> = answers.iter().map(|answer| by_prompt.remove(&one_text(answer))).collect();
    let missing = found.iter().filter(|row| row.is_none()).count();
    let others = |(row, answer): &(&Option<AnnotationRow>, &AnswerRow)| {
        row.as_ref().is_some_and(|row| row.output_2 != answer.output)
    };
    let others = found.iter().zip(answers).filter(others).count();
    if missing + others + by_prompt.len() > 0 {
        return Err(Failure::data(format!(
            "the annotations are not of these answers: {missing} of {} answers have none, {others} have one of another \
             answer, and {} annotations are of other prompts",
            answers.len(),
            by_prompt.len()
        ))
        .with_hint(
            "`annotations` must be what was judged of `answers`: take both from the same model of the leaderboard",
        ));
    }
    Ok(found.into_iter().flatten().collect())
}
