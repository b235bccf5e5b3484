//! `neftpipe export`.

mod merged;
mod rows;
mod tensorboard;

use std::path::{Path, PathBuf};

use clap::Args;
use neftpipe_protocol::ArtifactType;
use neftpipe_protocol::params::Precision;
use serde_json::json;

use super::reference::Named;
use super::{CliError, CliResult, Context, reference};
use crate::exit::Exit;
use crate::store::{Materialize, Store};

/// Copy an artifact out of the store; what was trained comes with an event file for TensorBoard, and tokens with
/// `train.parquet` and `heldout.parquet` (`input_ids`, and `labels` that are -100 where there is no loss) for other trainers.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// `[PIPELINE:]INSTANCE[@RUN]`, as `tokens.heldout` or `train[variant=neft5,seed=0]`, or a digest's first digits.
    #[arg(value_name = "REF")]
    reference: String,
    /// Where to: a folder that does not exist yet or is empty. Several artifacts get a folder each.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Write the model that an adapter makes of its base, in files that `transformers` loads.
    #[arg(long)]
    merged: bool,
    /// Number format of a merged model: `f32`, or `bf16`, which takes half the room and rounds small changes away.
    #[arg(long, value_name = "FORMAT", default_value = "f32", requires = "merged", value_parser = ["f32", "bf16"])]
    precision: String,
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
        let mut told = json!({ "id": named.id, "digest": named.artifact.digest, "path": target });
        let mut line = target.display().to_string();
        if args.merged {
            let merged = merged::merge(&store, named, &target, args.precision())?;
            told["merged"] = json!(merged);
            line += &format!("  {}", merged::text(&merged));
        } else {
            copy(&store, named, &target)?;
            tensorboard::write(&target, seconds(&named.entry.created))?;
            if named.artifact.artifact_type == ArtifactType::Tokens {
                rows::write(&target)?;
            }
        }
        copies.push(told);
        if !context.printer.is_json() {
            context.printer.line(line)?;
        }
    }
    if context.printer.is_json() {
        context.printer.json(&json!({ "version": 1, "copies": copies }))?;
    }
    Ok(Exit::Success)
}

impl ExportArgs {
    fn precision(&self) -> Precision {
        if self.precision == "bf16" { Precision::Bf16 } else { Precision::F32 }
    }
}

/// Seconds since 1970 of a record's time.
fn seconds(created: &str) -> f64 {
    created.parse::<jiff::Timestamp>().map_or(0.0, |time| time.as_second() as f64)
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
