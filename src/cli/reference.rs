//! REFs: what people name on the command line to look at results.
//!
//! `[PIPELINE:]INSTANCE[@RUN]` (the newest run of the store where none is said; axes left out mean all that match),
//! `RUN` (its id, or the name that it is kept as), the first digits of a digest, or a file.

use std::path::PathBuf;

use neftpipe_protocol::Digest;

use super::CliError;
use crate::record::{self, RunRecord, StageRecord};
use crate::spec::reference::Reference;
use crate::store::{Artifact, Entry, Store};

/// Digits of a digest that are taken for one.
const PREFIX_DIGITS: usize = 6;

/// What a REF names.
pub(super) enum Target {
    /// A run.
    Run(Box<RunRecord>),
    /// Instances of a run.
    Instances(Box<RunRecord>, Vec<Found>),
    /// A result by its key or by the digest of an output.
    Entry(Box<Entry>, Option<String>),
    /// A file or folder outside the store.
    File(PathBuf),
}

/// An instance of a run, and the output that is meant.
pub(super) struct Found {
    /// Its name.
    pub id: String,
    /// What the run knows of it.
    pub stage: StageRecord,
    /// Its result, where there is one.
    pub entry: Option<Entry>,
    /// The output that was named; the plain one otherwise.
    pub output: Option<String>,
}

/// An artifact that a REF names.
pub(super) struct Named {
    /// The instance, with the output where it is not the plain one.
    pub id: String,
    /// The artifact.
    pub artifact: Artifact,
    /// The result that it belongs to.
    pub entry: Entry,
    /// What the run knows of the instance, where the REF was by name.
    pub stage: Option<StageRecord>,
}

/// Finds what a REF names.
pub(super) fn resolve(store: &Store, text: &str) -> Result<Target, CliError> {
    let runs = store.runs_dir();
    if record::list(&runs)?.iter().any(|id| id == text) {
        return Ok(Target::Run(Box::new(record::load(&runs, text)?)));
    }
    if let Some((entry, output)) = by_digest(store, text)? {
        return Ok(Target::Entry(Box::new(entry), output));
    }
    let path = PathBuf::from(text);
    if path.exists() {
        return Ok(Target::File(path));
    }
    let (run, rest) = run_of(store, text)?;
    let reference = Reference::parse(&rest).map_err(|error| CliError::usage(format!("`{text}`: {error}")))?;
    let found = instances(store, &run, &reference)?;
    if found.is_empty() {
        if let Some(kept) = record::keep::run_kept_as(&runs, text)? {
            return Ok(Target::Run(Box::new(record::load(&runs, &kept)?)));
        }
        return Err(nothing(store, text, &run, &reference)?);
    }
    Ok(Target::Instances(Box::new(run), found))
}

/// The artifacts that a REF names, for commands that want artifacts.
pub(super) fn artifacts(store: &Store, text: &str) -> Result<Vec<Named>, CliError> {
    match resolve(store, text)? {
        Target::Instances(run, found) => found.into_iter().map(|found| named(&run, found)).collect(),
        Target::Entry(entry, output) => Ok(vec![of_entry(*entry, output)?]),
        Target::Run(_) => Err(CliError::usage(format!("`{text}` is a run: name an instance, as in INSTANCE@{text}"))),
        Target::File(_) => Err(CliError::usage(format!("`{text}` is a file outside the store"))),
    }
}

/// The artifact of an instance, or why there is none.
pub(super) fn named(run: &RunRecord, found: Found) -> Result<Named, CliError> {
    let Found { id, stage, entry, output } = found;
    let Some(entry) = entry else {
        return Err(CliError::usage(format!("{id} has no result in run {}", run.run))
            .with_hint(format!("`neftpipe show {}` says how its stages ended", run.run)));
    };
    let mut named = of_entry(entry, output.clone())?;
    named.id = match output {
        Some(output) => id.replacen(&stage_name(&id), &format!("{}.{output}", stage_name(&id)), 1),
        None => id,
    };
    named.stage = Some(stage);
    Ok(named)
}

pub(super) fn of_entry(entry: Entry, output: Option<String>) -> Result<Named, CliError> {
    let chosen = match &output {
        Some(name) => entry.outputs.get(name),
        None => entry.outputs.values().next(),
    };
    let Some(artifact) = chosen.cloned() else {
        let names: Vec<&str> = entry.outputs.keys().map(String::as_str).collect();
        let wanted = output.unwrap_or_default();
        return Err(CliError::usage(format!("{} has no output `{wanted}`", entry.stage))
            .with_hint(format!("it has {}", names.join(", "))));
    };
    Ok(Named { id: entry.stage.clone(), artifact, entry, stage: None })
}

fn stage_name(id: &str) -> String {
    id.split('[').next().unwrap_or(id).to_owned()
}

/// The run of this id, or that is kept under this name.
pub(super) fn run_named(store: &Store, id: &str) -> Result<RunRecord, CliError> {
    let runs = store.runs_dir();
    if record::list(&runs)?.iter().any(|known| known == id) {
        return Ok(record::load(&runs, id)?);
    }
    match record::keep::run_kept_as(&runs, id)? {
        Some(kept) => Ok(record::load(&runs, &kept)?),
        None => Err(CliError::usage(format!("there is no run `{id}`")).with_hint("`neftpipe runs` lists them")),
    }
}

/// The run that a REF is about, and the REF without pipeline and run.
fn run_of(store: &Store, text: &str) -> Result<(RunRecord, String), CliError> {
    let runs = store.runs_dir();
    let (text, run) = match text.rsplit_once('@') {
        Some((rest, run)) => (rest, Some(run)),
        None => (text, None),
    };
    let colon = text.find(':').filter(|&at| text.find('[').is_none_or(|bracket| at < bracket));
    let (pipeline, rest) = colon.map_or((None, text), |at| (Some(&text[..at]), &text[at + 1..]));
    let record = match run {
        Some(id) => Some(run_named(store, id)?),
        None => record::newest(&runs, pipeline)?,
    };
    match record {
        Some(record) if pipeline.is_none_or(|name| name == record.pipeline) => Ok((record, rest.to_owned())),
        Some(record) => Err(CliError::usage(format!("run {} is of the pipeline {}", record.run, record.pipeline))),
        None => {
            let of = pipeline.map_or(String::new(), |name| format!(" of a pipeline `{name}`"));
            Err(CliError::usage(format!("the store {} holds no run{of}", store.root().display()))
                .with_hint("run a pipeline first, or name another store with --store"))
        }
    }
}

/// Every instance of a run.
pub(super) fn all(store: &Store, run: &RunRecord) -> Result<Vec<Found>, CliError> {
    run.stages.iter().map(|(id, stage)| found(store, id, stage, None)).collect()
}

fn instances(store: &Store, run: &RunRecord, reference: &Reference) -> Result<Vec<Found>, CliError> {
    let is_meant = |id: &str, stage: &StageRecord| {
        stage_name(id) == reference.stage && reference.matches(|axis| stage.axes.get(axis))
    };
    let output = reference.output.as_ref().map(|(name, _)| name.as_str());
    let meant = run.stages.iter().filter(|(id, stage)| is_meant(id, stage));
    meant.map(|(id, stage)| found(store, id, stage, output)).collect()
}

fn found(store: &Store, id: &str, stage: &StageRecord, output: Option<&str>) -> Result<Found, CliError> {
    let entry = match &stage.key {
        Some(key) => store.entry(key)?,
        None => None,
    };
    Ok(Found { id: id.to_owned(), stage: stage.clone(), entry, output: output.map(str::to_owned) })
}

/// Says that a run has no such instance, and which older one has.
fn nothing(store: &Store, text: &str, run: &RunRecord, reference: &Reference) -> Result<CliError, CliError> {
    let mut names: Vec<String> = run.stages.keys().map(|id| stage_name(id)).collect();
    names.dedup();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let error = CliError::usage(format!("run {} of {} has no instance `{text}`", run.run, run.pipeline));
    if let Some(older) = older_with(store, run, reference)? {
        return Ok(error.with_hint(format!("an older run has it: `{reference}@{older}`")));
    }
    Ok(match crate::spec::problem::nearest(&reference.stage, &names) {
        Some(name) if name != reference.stage => error.with_hint(format!("did you mean `{name}`?")),
        _ => error.with_hint(format!("its stages are {}", names.join(", "))),
    })
}

/// The newest of the runs before this one, of the same pipeline, that has what is meant; of the last few.
fn older_with(store: &Store, run: &RunRecord, reference: &Reference) -> Result<Option<String>, CliError> {
    const LOOKED_AT: usize = 20;
    let runs = store.runs_dir();
    for id in record::list(&runs)?.iter().rev().filter(|id| **id < run.run).take(LOOKED_AT) {
        let older = record::load(&runs, id)?;
        if older.pipeline == run.pipeline && !instances(store, &older, reference)?.is_empty() {
            return Ok(Some(older.run));
        }
    }
    Ok(None)
}

/// The result whose key, or whose output, has a digest that begins so.
fn by_digest(store: &Store, text: &str) -> Result<Option<(Entry, Option<String>)>, CliError> {
    if text.len() < PREFIX_DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let begins = |digest: &Digest| digest.to_string().starts_with(&text.to_ascii_lowercase());
    for key in store.keys()? {
        let Some(entry) = store.entry(&key)? else { continue };
        let output = entry.outputs.iter().find(|(_, artifact)| begins(&artifact.digest)).map(|(name, _)| name.clone());
        if output.is_some() || begins(&key) {
            return Ok(Some((entry, output)));
        }
    }
    Ok(None)
}
