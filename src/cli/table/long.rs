//! Long tables: one row a training step, or one row an answer, verdict or prompt.

use std::path::Path;

use neftpipe_protocol::ArtifactType;
use neftpipe_protocol::artifact::Metrics;

use super::instances::Row;
use crate::cli::CliError;
use crate::cli::show::view::{json, lines};
use crate::store::{Artifact, Store};
use crate::ui::frame::{Group, Record};

const STEPS: &str = "steps.jsonl";
/// Names of columns that tell which instance a row is of.
const TAKEN: [&str; 3] = ["id", "run", "axes"];

/// The steps of every training among these.
pub(super) fn steps(store: &Store, rows: &[Row]) -> Result<Vec<Record>, CliError> {
    let records = gather(store, rows, |artifact, dir| {
        artifact.file(STEPS).map(|_| lines(&dir.join(STEPS), usize::MAX)).transpose()
    })?;
    some(records, "none of these is a training with steps", "--steps is of `train` stages")
}

/// The rows of every answer, verdict or list of prompts among these.
pub(super) fn rows(store: &Store, rows: &[Row]) -> Result<Vec<Record>, CliError> {
    let records = gather(store, rows, |artifact, dir| {
        let values = match artifact.artifact_type {
            ArtifactType::Answers => json(&dir.join("answers.json")),
            ArtifactType::Verdict | ArtifactType::Dataset => lines(&dir.join("rows.jsonl"), usize::MAX),
            ArtifactType::Prompts => lines(&dir.join("prompts.jsonl"), usize::MAX),
            _ => return Ok(None),
        };
        values.map(Some)
    })?;
    some(records, "none of these has rows", "--rows is of answers, verdicts, prompts and datasets")
}

fn gather(
    store: &Store,
    rows: &[Row],
    read: impl Fn(&Artifact, &Path) -> Result<Option<Vec<Metrics>>, neftpipe_protocol::Failure>,
) -> Result<Vec<Record>, CliError> {
    let mut records = Vec::new();
    for row in rows {
        let Some(artifact) = row.artifact() else { continue };
        for values in read(artifact, &store.view(artifact)?)?.into_iter().flatten() {
            let pairs = [("id", row.id.clone().into()), ("run", row.run.clone().into())];
            let identity = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let record = Record::default().with(Group::Identity, identity).with(Group::Axes, row.axes());
            records.push(record.with(Group::Values, own(values)));
        }
    }
    Ok(records)
}

/// The values of a row, with names that are not those of what it is a row of.
fn own(values: Metrics) -> Metrics {
    let name = |name: String| if TAKEN.contains(&name.as_str()) { format!("row.{name}") } else { name };
    values.into_iter().map(|(key, value)| (name(key), value)).collect()
}

fn some(records: Vec<Record>, nothing: &str, hint: &str) -> Result<Vec<Record>, CliError> {
    if records.is_empty() { Err(CliError::usage(nothing).with_hint(hint)) } else { Ok(records) }
}
