//! `neftpipe runs`.

use clap::Args;
use serde_json::{Value, json};

use super::{CliResult, Context};
use crate::engine::event::StageOutcome;
use crate::exit::Exit;
use crate::record::{self, RunRecord, RunState};
use crate::ui::table::seconds;

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
            runs.push((RunState::of(&store, &run)?, run));
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
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    context.printer.table(&["run", "state", "executed", "cached", "time", "pipeline", "started"], &rows)?;
    Ok(Exit::Success)
}

fn count(run: &RunRecord, wanted: &StageOutcome) -> usize {
    run.stages.values().filter(|stage| stage.outcome.as_ref() == Some(wanted)).count()
}

fn row((state, run): &(RunState, RunRecord)) -> Vec<String> {
    vec![
        run.run.clone(),
        state.name().to_owned(),
        count(run, &StageOutcome::Executed).to_string(),
        count(run, &StageOutcome::Cached).to_string(),
        run.seconds.map_or(String::new(), seconds),
        run.pipeline.clone(),
        run.started.clone(),
    ]
}

fn as_json((state, run): &(RunState, RunRecord)) -> Value {
    json!({
        "run": run.run, "pipeline": run.pipeline, "file": run.file, "started": run.started, "state": state,
        "outcome": run.outcome, "process": run.process,
        "executed": count(run, &StageOutcome::Executed), "cached": count(run, &StageOutcome::Cached), "seconds": run.seconds,
    })
}
