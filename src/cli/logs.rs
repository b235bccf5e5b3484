//! `neftpipe logs`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use neftpipe_protocol::worker::io_failure;
use serde_json::json;

use super::reference::{self, Found, Target};
use super::{CliError, CliResult, Context};
use crate::engine;
use crate::exit::Exit;
use crate::record::{self, RunRecord};
use crate::store::Store;
use crate::ui::printer::{DIM, styled};

const LOGS: [&str; 2] = ["stderr.log", "stdout.log"];
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Print what a stage printed; the log of a cached stage is that of the run which made it.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// `[PIPELINE:]INSTANCE[@RUN]`, or RUN for its events.
    #[arg(value_name = "REF")]
    reference: String,
    /// Go on printing while the run goes on.
    #[arg(short, long)]
    follow: bool,
}

pub(super) fn run(context: &Context, args: &LogsArgs) -> CliResult {
    let store = context.store_here()?;
    match reference::resolve(&store, &args.reference)? {
        Target::Run(run) => follow(context, &store, &run.run, &[journal(&store, &run)], args.follow)?,
        Target::Instances(run, found) => {
            for found in &found {
                let folder = folder_of(&store, &run, found);
                if found.stage.key.is_none() && !folder.exists() {
                    context.printer.note(styled(DIM, format!("{}: it did not start", found.id)));
                    continue;
                }
                if context.printer.is_json() {
                    context.printer.json(&json!({ "version": 1, "id": found.id, "folder": folder }))?;
                    continue;
                }
                context.printer.note(styled(DIM, format!("── {} · {}", found.id, folder.display())));
                let files: Vec<PathBuf> = LOGS.iter().map(|name| folder.join(name)).collect();
                follow(context, &store, &run.run, &files, args.follow)?;
            }
        }
        Target::Entry(entry, _) => {
            let folder = logs_of_entry(&store, &entry.provenance).unwrap_or_default();
            let files: Vec<PathBuf> = LOGS.iter().map(|name| folder.join(name)).collect();
            follow(context, &store, "", &files, false)?;
        }
        Target::File(path) => return Err(CliError::usage(format!("{} is a file: logs are of stages", path.display()))),
    }
    Ok(Exit::Success)
}

fn journal(store: &Store, run: &RunRecord) -> PathBuf {
    store.runs_dir().join(&run.run).join("journal.jsonl")
}

/// Where the logs of an instance are: with its attempt while it is at work, with the run once it is over, with the run
/// that made the result where it was cached.
fn folder_of(store: &Store, run: &RunRecord, found: &Found) -> PathBuf {
    let ends_with_id = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(&engine::slug(0, &found.id)[5..]))
    };
    let folders = [engine::attempts_of(store, &run.run), store.runs_dir().join(&run.run).join("logs")];
    let own = folders
        .iter()
        .filter_map(|folder| folder.read_dir().ok())
        .flatten()
        .filter_map(Result::ok)
        .map(|e| e.path())
        .find(ends_with_id);
    let made = || found.entry.as_ref().and_then(|entry| logs_of_entry(store, &entry.provenance));
    own.or_else(made).unwrap_or_else(|| folders[1].clone())
}

fn logs_of_entry(store: &Store, provenance: &neftpipe_protocol::artifact::Metrics) -> Option<PathBuf> {
    provenance.get("logs").and_then(|logs| logs.as_str()).map(|logs| store.root().join(logs))
}

/// Prints files, and what is appended to them while the run goes on.
fn follow(context: &Context, store: &Store, run: &str, files: &[PathBuf], follow: bool) -> Result<(), CliError> {
    let mut read: Vec<u64> = vec![0; files.len()];
    loop {
        let over = !follow || record::load(&store.runs_dir(), run)?.outcome.is_some();
        for (file, from) in files.iter().zip(&mut read) {
            *from += print_from(context, file, *from)?;
        }
        if over {
            if read.iter().all(|&bytes| bytes == 0) {
                context.printer.note(styled(DIM, "it printed nothing"));
            }
            return Ok(());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn print_from(context: &Context, path: &Path, from: u64) -> Result<u64, CliError> {
    let failure = |error: std::io::Error| CliError::from(io_failure("read", path, &error));
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failure(error)),
    };
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_end(&mut bytes)).map_err(failure)?;
    context.printer.bytes(&bytes)?;
    Ok(bytes.len() as u64)
}
