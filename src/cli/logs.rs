//! `neftpipe logs`.

use std::path::PathBuf;

use clap::Args;
use neftpipe_protocol::artifact::Metrics;
use serde_json::{Value, json};

use super::follow::{self, StageLog};
use super::reference::{self, Found, Target};
use super::{CliError, CliResult, Context};
use crate::engine;
use crate::exit::Exit;
use crate::record::RunRecord;
use crate::store::Store;
use crate::ui::printer::{DIM, styled};

/// Print what a stage printed; the log of a cached stage is that of the run which made it. Of a run, print its lines;
/// with --follow until it ends, and end with its exit code.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// `[PIPELINE:]INSTANCE[@RUN]`, or RUN for its lines.
    #[arg(value_name = "REF")]
    reference: String,
    /// Go on printing while the stage or run goes on.
    #[arg(short, long)]
    follow: bool,
}

pub(super) fn run(context: &Context, args: &LogsArgs) -> CliResult {
    let store = context.store_here()?;
    match reference::resolve(&store, &args.reference)? {
        Target::Run(run) => follow::run(context, &store, &run, args.follow),
        Target::Instances(run, found) => {
            let logs: Vec<StageLog> = found.iter().map(|found| log_of(&store, &run, found)).collect();
            if context.printer.is_json() {
                return folders(context, &logs);
            }
            follow::stages(context, &store, &run, logs, args.follow)
        }
        Target::Entry(entry, _) => {
            let folder = made_by(&store, &entry.provenance);
            follow::print(context, StageLog::new(entry.stage, folder.into_iter().collect()))
        }
        Target::File(path) => Err(CliError::usage(format!("{} is a file: logs are of stages", path.display()))),
    }
}

fn folders(context: &Context, logs: &[StageLog]) -> CliResult {
    for log in logs {
        let folder: Value = log.folder().map_or(Value::Null, |folder| json!(folder));
        context.printer.json(&json!({ "version": 1, "id": log.id, "folder": folder }))?;
    }
    if logs.iter().all(|log| log.folder().is_none()) {
        context.printer.note(styled(DIM, "nothing of it was started"));
    }
    Ok(Exit::Success)
}

/// Where the log of an instance is: with its attempt while it is at work, with the run once it is over, with the run
/// that made the result where it was cached.
fn log_of(store: &Store, run: &RunRecord, found: &Found) -> StageLog {
    let mut folders =
        vec![engine::attempt_of_stage(store, &run.run, &found.id), engine::logs_of_stage(store, &run.run, &found.id)];
    folders.extend(found.entry.as_ref().and_then(|entry| made_by(store, &entry.provenance)));
    StageLog::new(found.id.clone(), folders)
}

fn made_by(store: &Store, provenance: &Metrics) -> Option<PathBuf> {
    provenance.get("logs").and_then(Value::as_str).map(|logs| store.root().join(logs))
}
