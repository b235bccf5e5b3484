//! `neftpipe keep`.

use clap::Args;

use super::{CliResult, Context, reference};
use crate::exit::Exit;
use crate::record::keep;

/// Give a run a name, under which its results are never collected, and which then stands for the run.
#[derive(Debug, Args)]
pub struct KeepArgs {
    /// The run; `neftpipe runs` lists them.
    #[arg(value_name = "RUN")]
    run: String,
    /// The name: `paper-v1`.
    #[arg(long = "as", value_name = "NAME")]
    name: String,
}

pub(super) fn run(context: &Context, args: &KeepArgs) -> CliResult {
    let store = context.store_here()?;
    let run = reference::run_named(&store, &args.run)?.run;
    keep::keep(&store.runs_dir(), &run, &args.name)?;
    context.printer.note(format!("run {run} is kept as {}", args.name));
    Ok(Exit::Success)
}
