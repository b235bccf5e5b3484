//! `neftpipe runs`.

use clap::Args;
use serde_json::{Value, json};

use super::{CliResult, Context};
use crate::engine::event::Counts;
use crate::exit::Exit;
use crate::record::{self, RunRecord, RunState, keep};
use crate::ui::table::seconds;

/// A run of the list.
struct Listed {
    state: RunState,
    run: RunRecord,
    /// What it is kept as.
    names: Vec<String>,
}

/// List the runs of this store, newest first.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Only runs of this pipeline.
    #[arg(value_name = "PIPELINE")]
    pipeline: Option<String>,
    /// At most so many.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
    limit: usize,
}

pub(super) fn run(context: &Context, args: &RunsArgs) -> CliResult {
    let store = context.store_here()?;
    let mut runs = Vec::new();
    for id in record::list(&store.runs_dir())?.iter().rev() {
        let run = record::load(&store.runs_dir(), id)?;
        if args.pipeline.as_ref().is_none_or(|name| *name == run.pipeline) {
            let names = keep::names(&store.runs_dir(), id).unwrap_or_else(|failure| {
                tracing::warn!("{failure}");
                Vec::new()
            });
            runs.push(Listed { state: RunState::of(&store, &run)?, run, names });
        }
        if runs.len() == args.limit {
            break;
        }
    }
    if context.printer.is_json() {
        let runs: Vec<Value> = runs.iter().map(as_json).collect();
        context.printer.json(&json!({ "version": 1, "runs": runs }))?;
        return Ok(Exit::Success);
    }
    show(context, &runs)
}

/// As a table; what happened in none of the runs has no column.
fn show(context: &Context, runs: &[Listed]) -> CliResult {
    let counts: Vec<Counts> = runs.iter().map(|listed| listed.run.counts()).collect();
    let kept = runs.iter().any(|listed| !listed.names.is_empty());
    let failed = counts.iter().any(|counts| counts.failed > 0);
    let interrupted = counts.iter().any(|counts| counts.interrupted > 0);
    let mut heads = vec!["run", "state", "executed", "cached"];
    heads.extend(failed.then_some("failed"));
    heads.extend(interrupted.then_some("interrupted"));
    heads.extend(["time", "pipeline", "started"]);
    heads.extend(kept.then_some("kept as"));
    let row = |(Listed { state, run, names }, counts): (&Listed, &Counts)| {
        let mut row = vec![run.run.clone(), state.name().to_owned()];
        row.extend([counts.executed.to_string(), counts.cached.to_string()]);
        row.extend(failed.then(|| counts.failed.to_string()));
        row.extend(interrupted.then(|| counts.interrupted.to_string()));
        row.extend([run.seconds.map_or(String::new(), seconds), run.pipeline.clone(), run.started.clone()]);
        row.extend(kept.then(|| names.join(", ")));
        row
    };
    let rows: Vec<Vec<String>> = runs.iter().zip(&counts).map(row).collect();
    context.printer.table(&heads, &rows)?;
    Ok(Exit::Success)
}

fn as_json(Listed { state, run, names }: &Listed) -> Value {
    let Counts { executed, cached, failed, blocked, interrupted } = run.counts();
    json!({
        "run": run.run, "pipeline": run.pipeline, "file": run.file, "started": run.started, "state": state,
        "outcome": run.outcome, "process": run.process,
        "executed": executed, "cached": cached, "failed": failed, "blocked": blocked, "interrupted": interrupted,
        "seconds": run.seconds, "kept_as": names,
    })
}
