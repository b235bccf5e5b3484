//! `neftpipe export`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::reference::Named;
use super::{CliError, CliResult, Context, reference};
use crate::exit::Exit;
use crate::store::{Materialize, Store};

/// Copy an artifact out of the store.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// `[PIPELINE:]INSTANCE[@RUN]`, as `tokens.heldout` or `train[variant=neft5,seed=0]`, or a digest's first digits.
    #[arg(value_name = "REF")]
    reference: String,
    /// Where to: a folder that does not exist yet or is empty. Several artifacts get a folder each.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(super) fn run(context: &Context, args: &ExportArgs) -> CliResult {
    let store = context.store_here()?;
    let artifacts = reference::artifacts(&store, &args.reference)?;
    if args.dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(CliError::usage(format!("{} is not empty", args.dir.display())).with_hint("name a new folder"));
    }
    let several = artifacts.len() > 1;
    let mut copies = Vec::new();
    for named in &artifacts {
        let target = if several { args.dir.join(folder_name(&named.id)) } else { args.dir.clone() };
        copy(&store, named, &target)?;
        copies.push(json!({ "id": named.id, "digest": named.artifact.digest, "path": target }));
        if !context.printer.is_json() {
            context.printer.line(target.display().to_string())?;
        }
    }
    if context.printer.is_json() {
        context.printer.json(&json!({ "version": 1, "copies": copies }))?;
    }
    Ok(Exit::Success)
}

fn copy(store: &Store, named: &Named, target: &Path) -> Result<(), CliError> {
    let missing = store.missing_files(&named.artifact)?;
    if let Some(file) = missing.first() {
        let error = CliError::Message {
            exit: Exit::Environment,
            message: format!(
                "{}: {} files of it are gone from the store, {} among them",
                named.id,
                missing.len(),
                file.path
            ),
            hint: Some("run its pipeline again".to_owned()),
        };
        return Err(error);
    }
    Ok(store.materialize(&named.artifact, target, Materialize::Copy)?)
}

/// An instance's name as one path component that no shell minds.
fn folder_name(id: &str) -> String {
    id.chars().map(|c| if c.is_alphanumeric() || "._-=,".contains(c) { c } else { '_' }).collect()
}
