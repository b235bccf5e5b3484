//! `neftpipe show FILE`: answers, annotations or an artifact's folder that lie outside the store.

use std::fs;
use std::path::Path;

use neftpipe_measures::leaderboard::{Annotation, leaderboard_line};
use neftpipe_measures::length_control::{DIFFICULTY_FILE, LengthControl, Strength};
use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{ArtifactType, Failure};
use serde_json::Value;

use super::super::Context;
use super::view::{self, View};
use super::{answers, file_json, unreadable};
use crate::cli::CliError;
use crate::ui::printer::{DIM, HEADING, styled};

/// How the win rate at equal length is found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Control<'a> {
    /// Its data.
    pub file: &'a Path,
    /// C.
    pub strength: Strength,
}

pub(super) fn show(context: &Context, path: &Path, control: Option<Control<'_>>) -> Result<(), CliError> {
    let (artifact, view) = look(path, control)?;
    let name = path.display().to_string();
    if context.printer.is_json() {
        return Ok(context.printer.json(&file_json(&name, artifact, &view.figures))?);
    }
    context.printer.line(format!("{} {}", styled(HEADING, name), styled(DIM, artifact)))?;
    Ok(context.printer.line(view.text.trim_end())?)
}

fn look(path: &Path, control: Option<Control<'_>>) -> Result<(ArtifactType, View), Failure> {
    if path.is_dir() {
        let artifact = type_of_folder(path).ok_or_else(|| unreadable(path))?;
        return Ok((artifact, view::view(artifact, path)?));
    }
    let bytes = fs::read(path).map_err(|error| io_failure("read", path, &error))?;
    let rows: Vec<Value> = serde_json::from_slice(&bytes).map_err(|error| match error.is_data() {
        true => unreadable(path),
        false => no_json(path, &bytes, &error),
    })?;
    let has = |field: &str| rows.first().is_some_and(|row| row.get(field).is_some());
    if has("preference") {
        Ok((ArtifactType::Verdict, annotations(path, &bytes, control)?))
    } else if has("output") {
        Ok((ArtifactType::Answers, answers::view(path)?))
    } else {
        Err(unreadable(path))
    }
}

/// What is to be JSON and is not, with the place; what is nothing like it by what could be shown.
fn no_json(path: &Path, bytes: &[u8], error: &serde_json::Error) -> Failure {
    if !bytes.trim_ascii_start().starts_with(b"[") {
        return unreadable(path);
    }
    let failure = Failure::data(format!("{}: {error}", path.display()));
    let line = bytes.split(|&byte| byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let rest = line.get(error.column().saturating_sub(1)..).unwrap_or_default();
    if rest.starts_with(b"NaN") {
        failure.with_hint("JSON has no NaN: null stands for a preference that is not there")
    } else {
        failure
    }
}

fn type_of_folder(path: &Path) -> Option<ArtifactType> {
    const MARKS: [(&str, ArtifactType); 8] = [
        ("adapter_config.json", ArtifactType::Adapter),
        ("config.json", ArtifactType::Model),
        ("tokens.json", ArtifactType::Tokens),
        ("dataset.json", ArtifactType::Dataset),
        ("prompts.jsonl", ArtifactType::Prompts),
        ("answers.json", ArtifactType::Answers),
        ("verdict.json", ArtifactType::Verdict),
        ("report.json", ArtifactType::Report),
    ];
    MARKS.into_iter().find(|(name, _)| path.join(name).is_file()).map(|(_, artifact)| artifact)
}

/// The leaderboard's figures of a bare annotation file.
fn annotations(path: &Path, bytes: &[u8], control: Option<Control<'_>>) -> Result<View, Failure> {
    let rows: Vec<Annotation> =
        serde_json::from_slice(bytes).map_err(|error| Failure::data(format!("{}: {error}", path.display())))?;
    let set: Vec<&str> = rows.iter().map(|row| row.instruction.as_str()).collect();
    let read = |Control { file, strength }| Ok::<_, Failure>((length_control(file, &set)?, strength));
    let control = control.map(read).transpose()?;
    let line = leaderboard_line(&rows, control.as_ref().map(|(control, strength)| (control, *strength)))
        .map_err(|error| Failure::data(format!("{}: {error}", path.display())))?;
    let Value::Object(figures) = serde_json::to_value(line).expect("figures serialise") else {
        return Err(unreadable(path));
    };
    let figures = figures.into_iter().collect();
    Ok(View { text: view::figures_table(&figures), figures })
}

/// Length control from a file of the JSON form or the official `df_gamed.csv`, perhaps with `instruction_difficulty.csv`
/// beside it. `set` is the instructions in its order.
fn length_control(path: &Path, set: &[&str]) -> Result<LengthControl, Failure> {
    let text = fs::read_to_string(path).map_err(|error| io_failure("read", path, &error))?;
    let is_table = path.extension().is_some_and(|extension| extension == "csv");
    let control = match is_table {
        true => {
            let beside = path.with_file_name(DIFFICULTY_FILE);
            let difficulty = fs::read_to_string(&beside).map(|text| (beside.display().to_string(), text)).ok();
            let files = [(path.display().to_string(), text)].into_iter().chain(difficulty);
            LengthControl::from_files(&files.collect::<Vec<_>>(), set)
        }
        false => LengthControl::from_json(&text),
    };
    control.map_err(|error| Failure::data(format!("{}: {error}", path.display())))
}
