//! `neftpipe gc`.

use std::collections::HashSet;

use clap::Args;
use neftpipe_protocol::Failure;
use serde_json::{Value, json};

use super::{CliError, CliResult, Context};
use crate::engine;
use crate::exit::Exit;
use crate::record::keep::{self, Vouched};
use crate::spec::parse_bytes;
use crate::store::{Collected, Policy, Store};
use crate::ui::table::bytes;

/// Remove results that no recent run needs. What was kept by name, or is being made, stays.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Keep what the newest N runs of each pipeline made.
    #[arg(long, value_name = "N", default_value_t = 1)]
    keep_runs: usize,
    /// Let results hold at most so much; what is cheapest to make again for its size goes first: `20GiB`.
    #[arg(long, value_name = "SIZE")]
    max_size: Option<String>,
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(context: &Context, args: &GcArgs) -> CliResult {
    let store = context.store_here()?;
    let size = args.max_size.as_deref().map(parse_bytes).transpose();
    let max_bytes = size.map_err(|problem| CliError::usage(format!("--max-size: {problem}")))?;
    let Vouched { keep: kept, pinned, others } = vouched(&store, args.keep_runs)?;
    let policy = Policy { keep: kept, pinned, max_bytes, dry_run: args.dry_run, ..Policy::default() };
    let collected = store.collect(&policy)?;
    if !args.dry_run {
        keep::forget(&store.runs_dir(), &others, &makers(&store)?)?;
    }
    print(context, &collected, args.dry_run)?;
    if max_bytes.is_some_and(|most| collected.kept_bytes > most) {
        context.printer.note("what stays beyond that is kept by name, or was made or found within the last hour");
    }
    Ok(Exit::Success)
}

/// What runs vouch for. A run of which nobody can tell whether it goes on is taken to do so.
fn vouched(store: &Store, count: usize) -> Result<Vouched, Failure> {
    keep::vouched(&store.runs_dir(), count, |run| engine::goes_on(store, run).unwrap_or(true))
}

/// The runs that made what is still there: what they printed stays readable.
fn makers(store: &Store) -> Result<HashSet<String>, CliError> {
    let mut makers = HashSet::new();
    for key in store.keys()? {
        let run = store.entry(&key)?.and_then(|entry| Some(entry.provenance.get("run")?.as_str()?.to_owned()));
        makers.extend(run);
    }
    Ok(makers)
}

fn print(context: &Context, collected: &Collected, dry_run: bool) -> std::io::Result<()> {
    let Collected { entries, blobs, unfinished, bytes: freed, kept_bytes } = collected;
    if context.printer.is_json() {
        let entries: Vec<Value> = entries.iter().map(|(key, stage)| json!({ "key": key, "stage": stage })).collect();
        return context.printer.json(&json!({
            "version": 1, "dry_run": dry_run, "results": entries, "files": blobs, "unfinished": unfinished,
            "bytes": freed, "kept_bytes": kept_bytes,
        }));
    }
    for (key, stage) in entries {
        context.printer.line(format!("{}  {stage}", key.short()))?;
    }
    let verb = if dry_run { "would free" } else { "freed" };
    context.printer.line(format!(
        "{verb} {}: {} results, {blobs} files, {unfinished} pieces of unfinished work; {} stay",
        bytes(*freed),
        entries.len(),
        bytes(*kept_bytes),
    ))
}
