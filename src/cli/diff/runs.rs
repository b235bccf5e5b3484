//! What differs between two runs: instances that came or went, other keys and why, other ends.

use serde::Serialize;
use serde_json::json;

use crate::cli::{CliError, Context};
use crate::engine::event::StageOutcome;
use crate::plan::{Preimage, Reason, differences, in_a_line};
use crate::record::{RunRecord, RunState, StageRecord};
use crate::store::Store;
use crate::ui::outcome;
use crate::ui::printer::{BAD, DIM, GOOD, HEADING, NOTICE, styled};
use crate::ui::table::seconds;

/// An instance of both runs that is not the same in both.
#[derive(Serialize)]
struct Changed {
    id: String,
    /// Why its key is another.
    reasons: Vec<Reason>,
    /// How it ended in either run, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcomes: Option<[&'static str; 2]>,
}

pub(super) fn diff(context: &Context, store: &Store, a: &RunRecord, b: &RunRecord) -> Result<(), CliError> {
    let removed: Vec<&String> = a.stages.keys().filter(|id| !b.stages.contains_key(*id)).collect();
    let added: Vec<&String> = b.stages.keys().filter(|id| !a.stages.contains_key(*id)).collect();
    let mut changed = Vec::new();
    for (id, then) in &a.stages {
        let Some(now) = b.stages.get(id) else { continue };
        let reasons = reasons(store, then, now)?;
        let outcomes = outcomes(then, now);
        if !reasons.is_empty() || outcomes.is_some() {
            changed.push(Changed { id: id.clone(), reasons, outcomes });
        }
    }
    let same = a.stages.len() - removed.len() - changed.len();
    if context.printer.is_json() {
        let side = |run: &RunRecord| json!({ "run": run.run, "pipeline": run.pipeline, "started": run.started, "outcome": run.outcome, "seconds": run.seconds });
        return Ok(context.printer.json(&json!({
            "version": 1, "a": side(a), "b": side(b), "added": added, "removed": removed, "changed": changed, "same": same,
        }))?);
    }
    let mut text =
        format!("{}\n{}\n\n", heading("A", a, RunState::of(store, a)?), heading("B", b, RunState::of(store, b)?));
    removed.iter().for_each(|id| text += &format!("{}\n", styled(BAD, format!("- {id}"))));
    added.iter().for_each(|id| text += &format!("{}\n", styled(GOOD, format!("+ {id}"))));
    changed.iter().for_each(|change| text += &change.text());
    text += &styled(DIM, format!("{same} instances are the same"));
    Ok(context.printer.line(text)?)
}

fn heading(name: &str, run: &RunRecord, state: RunState) -> String {
    let RunRecord { run, pipeline, started, seconds: spent, .. } = run;
    let spent = spent.map_or(String::new(), |spent| format!(" in {}", seconds(spent)));
    let told = styled(DIM, format!("   {pipeline} · {started} · {}{spent}", state.name()));
    format!("{}\n{told}", styled(HEADING, format!("{name}  {run}")))
}

/// What of the key differs. Where a result is gone, or was never made, what the records know of it.
fn reasons(store: &Store, a: &StageRecord, b: &StageRecord) -> Result<Vec<Reason>, CliError> {
    if a.key.is_some() && a.key == b.key {
        return Ok(Vec::new());
    }
    let preimage = |stage: &StageRecord| -> Result<Option<Preimage>, CliError> {
        let Some(key) = stage.key else { return Ok(None) };
        Ok(store.entry(&key)?.and_then(|entry| serde_json::from_value(entry.preimage).ok()))
    };
    let unkeyed = |stage: &StageRecord| Preimage {
        kind: stage.kind,
        version: stage.kind.version(),
        params: stage.params.clone(),
        inputs: Default::default(),
        contents: Default::default(),
        env: Default::default(),
    };
    Ok(match (preimage(a)?, preimage(b)?) {
        (Some(a), Some(b)) => differences(&a, &b),
        _ => differences(&unkeyed(a), &unkeyed(b)),
    })
}

/// How an instance ended, where that differs. Whether a result was there already is no difference.
fn outcomes(a: &StageRecord, b: &StageRecord) -> Option<[&'static str; 2]> {
    let word = |stage: &StageRecord| match &stage.outcome {
        Some(StageOutcome::Executed | StageOutcome::Cached) => "made",
        _ => outcome::word(stage),
    };
    let words = [word(a), word(b)];
    (words[0] != words[1]).then_some(words)
}

impl Changed {
    fn text(&self) -> String {
        let ends = self.outcomes.map(|[a, b]| format!("{a} → {b}")).unwrap_or_default();
        let why: Vec<String> = [in_a_line(&self.reasons), ends].into_iter().filter(|text| !text.is_empty()).collect();
        format!("{} {}  {}\n", styled(NOTICE, "~"), self.id, styled(DIM, why.join("; ")))
    }
}
