//! `neftpipe show`.

mod answers;
mod file;
pub mod view;

use std::fs;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use neftpipe_measures::length_control::Strength;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{ArtifactType, Digest, Failure};
use serde_json::{Value, json};

use super::reference::{self, Found, Named, Target};
use super::{CliError, CliResult, Context};
use crate::cli::figures::params;
use crate::exit::Exit;
use crate::record::{self, RunRecord, RunState};
use crate::store::{Artifact, Store};

use crate::ui::outcome;
use crate::ui::printer::{DIM, HEADING, NOTICE, styled};
use crate::ui::table::{bytes, seconds};

/// Look at a run, an instance, an artifact or a file; without a REF at the newest run.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// `[PIPELINE:]INSTANCE[@RUN]` (axes left out mean all that match), RUN, a digest's first digits, or a file.
    #[arg(value_name = "REF")]
    reference: Option<String>,
    /// A file inside the artifact, to print.
    #[arg(value_name = "PATH-IN-ARTIFACT")]
    path: Option<String>,
    /// For annotations: data of the length-controlled win rate, as AlpacaEval's `df_gamed.csv` or as JSON.
    #[arg(long, value_name = "FILE")]
    length_control: Option<PathBuf>,
    /// Inverse strength of its penalty: a number, or `cv`, which chooses it as AlpacaEval does and needs `df_gamed.csv`.
    #[arg(long = "C", value_name = "C", default_value = "2.7826", requires = "length_control", value_parser = strength)]
    strength: Strength,
}

impl ShowArgs {
    fn control(&self) -> Option<file::Control<'_>> {
        self.length_control.as_deref().map(|file| file::Control { file, strength: self.strength })
    }
}

fn strength(text: &str) -> Result<Strength, String> {
    match text.parse() {
        _ if text == "cv" => Ok(Strength::CrossValidated),
        Ok(c) if f64::is_finite(c) && c > 0.0 => Ok(Strength::Fixed(c)),
        _ => Err("a positive number or cv is wanted".to_owned()),
    }
}

pub(super) fn run(context: &Context, args: &ShowArgs) -> CliResult {
    let path = args.path.as_deref();
    let Some(store) = context.find_store_here()? else { return show_without_store(context, args) };
    let target = match &args.reference {
        Some(text) => reference::resolve(&store, text)?,
        None => newest(&store)?,
    };
    match target {
        Target::Run(_) | Target::File(_) if path.is_some() => {
            return context.refuse("a path goes with an instance or a digest");
        }
        Target::Run(record) => show_run(context, &store, &record)?,
        Target::File(path) => file::show(context, &path, args.control())?,
        Target::Entry(entry, output) => show_or_print(context, &store, &reference::of_entry(*entry, output)?, path)?,
        Target::Instances(run, found) => show_instances(context, &store, &run, found, path)?,
    }
    Ok(Exit::Success)
}

/// Files can be looked at anywhere.
fn show_without_store(context: &Context, args: &ShowArgs) -> CliResult {
    match args.reference.as_ref().map(Path::new).filter(|path| path.exists()) {
        Some(path) if args.path.is_none() => file::show(context, path, args.control())?,
        _ => return Err(context.no_store_here()?),
    }
    Ok(Exit::Success)
}

fn newest(store: &Store) -> Result<Target, CliError> {
    let record = record::newest(&store.runs_dir(), None)?;
    let record = record.ok_or_else(|| {
        CliError::usage(format!("the store {} holds no run", store.root().display()))
            .with_hint("`neftpipe run FILE` makes one")
    })?;
    Ok(Target::Run(Box::new(record)))
}

/// Says which pipeline and run a result is from, and whether the file has changed since.
pub(super) fn introduce(context: &Context, run: &RunRecord) {
    if context.printer.is_json() {
        return;
    }
    context.printer.note(styled(DIM, format!("{} · run {} · {}", run.pipeline, run.run, run.started)));
    let now = fs::read(&run.file).ok().map(|bytes| Digest::of(&bytes));
    match now {
        Some(digest) if digest == run.file_digest => {}
        Some(_) => context.printer.note(styled(NOTICE, format!("{} has changed since", run.file.display()))),
        None => context.printer.note(styled(NOTICE, format!("{} is no longer there", run.file.display()))),
    }
}

fn show_run(context: &Context, store: &Store, run: &RunRecord) -> Result<(), CliError> {
    if context.printer.is_json() {
        return Ok(context.printer.json(run)?);
    }
    introduce(context, run);
    let run_state = RunState::of(store, run)?;
    context.printer.note(styled(DIM, state(run_state)));
    let rows: Vec<Vec<String>> = run
        .stages
        .iter()
        .map(|(id, stage)| {
            let spent = stage.seconds.map_or(String::new(), seconds);
            let key = stage.key.map_or(String::new(), |key| key.short());
            vec![id.clone(), outcome::word_in(stage, run_state).to_owned(), spent, key]
        })
        .collect();
    Ok(context.printer.table(&["instance", "outcome", "time", "key"], &rows)?)
}

/// What became of a run, and what to do about it.
fn state(state: RunState) -> String {
    let what_to_do = match state {
        RunState::Running => ": `neftpipe logs RUN --follow` shows how far it is",
        RunState::Killed | RunState::Interrupted => {
            ": what was finished is kept, and the same command goes on from there"
        }
        RunState::Failed => ": `neftpipe logs INSTANCE` shows what a stage printed",
        RunState::Succeeded => "",
    };
    format!("{}{what_to_do}", state.name())
}

fn show_instances(
    context: &Context,
    store: &Store,
    run: &RunRecord,
    mut found: Vec<Found>,
    path: Option<&str>,
) -> Result<(), CliError> {
    introduce(context, run);
    if found.len() == 1 {
        let named = reference::named(run, found.remove(0))?;
        return show_or_print(context, store, &named, path);
    }
    if path.is_some() {
        let names: Vec<&str> = found.iter().map(|found| found.id.as_str()).collect();
        return Err(CliError::usage("a path is of one artifact, and several match").with_hint(names.join(", ")));
    }
    show_several(context, run, RunState::of(store, run)?, found)
}

fn show_several(context: &Context, run: &RunRecord, state: RunState, found: Vec<Found>) -> Result<(), CliError> {
    let mut shown = Vec::new();
    let mut rows = Vec::new();
    for found in found {
        let word = outcome::word_in(&found.stage, state).to_owned();
        let id = found.id.clone();
        match reference::named(run, found) {
            Ok(named) => {
                rows.push(vec![named.id.clone(), word, bytes(named.artifact.bytes()), named.artifact.digest.short()]);
                shown.push(as_json(&named, Metrics::new()));
            }
            Err(_) => rows.push(vec![id, word, String::new(), String::new()]),
        }
    }
    if context.printer.is_json() {
        return Ok(context.printer.json(&json!({ "version": 1, "instances": shown }))?);
    }
    Ok(context.printer.table(&["instance", "outcome", "size", "digest"], &rows)?)
}

fn show_or_print(context: &Context, store: &Store, named: &Named, path: Option<&str>) -> Result<(), CliError> {
    let dir = store.view(&named.artifact)?;
    match path {
        Some(path) => print_file(context, &dir, &named.artifact, path),
        None => show_artifact(context, &dir, named),
    }
}

fn print_file(context: &Context, dir: &Path, artifact: &Artifact, path: &str) -> Result<(), CliError> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let file = artifact.file(path).filter(|_| inside).ok_or_else(|| {
        let names: Vec<&str> = artifact.files.iter().map(|file| file.path.as_str()).collect();
        CliError::usage(format!("the artifact has no file `{path}`")).with_hint(format!("it has {}", names.join(", ")))
    })?;
    let place = dir.join(&file.path);
    let content = fs::read(&place).map_err(|error| io_failure("read", &place, &error))?;
    Ok(context.printer.bytes(&content)?)
}

fn show_artifact(context: &Context, dir: &Path, named: &Named) -> Result<(), CliError> {
    let view = view::view(named.artifact.artifact_type, dir)?;
    let printer = context.printer;
    if printer.is_json() {
        return Ok(printer.json(&as_json(named, view.figures))?);
    }
    let Artifact { artifact_type, digest, files } = &named.artifact;
    printer.line(format!("{} {}", styled(HEADING, &named.id), styled(DIM, artifact_type)))?;
    printer.line(styled(DIM, format!("digest {digest}\nkey    {}", named.entry.key)))?;
    if !view.text.trim().is_empty() {
        printer.line(view.text.trim_end())?;
    }
    printer.line(format!("\n{}", styled(HEADING, "Files")))?;
    let rows: Vec<Vec<String>> =
        files.iter().map(|file| vec![file.path.clone(), bytes(file.bytes), file.digest.short()]).collect();
    printer.table(&["path", "size", "digest"], &rows)?;
    if !named.entry.measured.is_empty() {
        printer.line(format!("\n{}", styled(HEADING, "Measured")))?;
        printer.line(view::figures_table(&named.entry.measured).trim_end())?;
    }
    if let Some(stage) = &named.stage {
        printer.line(format!("\n{}", styled(HEADING, "Parameters")))?;
        printer.line(view::figures_table(&params(Some(stage), None)).trim_end())?;
    }
    Ok(())
}

/// The documented JSON of an artifact.
fn as_json(named: &Named, figures: Metrics) -> Value {
    let Named { id, artifact, entry, stage } = named;
    let mut metrics = figures;
    metrics.extend(entry.metrics.clone());
    metrics.extend(entry.measured.clone());
    let kind = entry.preimage.get("kind").cloned().unwrap_or_default();
    let params = match stage {
        Some(stage) => stage.params.clone(),
        None => entry.preimage.get("params").cloned().unwrap_or_default(),
    };
    json!({
        "version": 1, "id": id, "kind": kind, "key": entry.key,
        "artifact": { "type": artifact.artifact_type, "digest": artifact.digest, "files": artifact.files },
        "params": params, "inputs": entry.preimage.get("inputs"), "metrics": metrics, "provenance": entry.provenance,
    })
}

/// The documented JSON of a file outside the store.
fn file_json(name: &str, artifact: ArtifactType, figures: &Metrics) -> Value {
    json!({
        "version": 1, "id": name, "kind": null, "key": null, "artifact": { "type": artifact, "digest": null, "files": [] },
        "params": {}, "inputs": {}, "metrics": figures, "provenance": {},
    })
}

fn unreadable(path: &Path) -> Failure {
    Failure::usage(format!("{} is nothing that can be shown", path.display()))
        .with_hint("answers or annotations as JSON, or the folder of an artifact")
}
