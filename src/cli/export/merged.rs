//! `neftpipe export --merged`: the model that an adapter makes of its base.

use std::fs;
use std::path::Path;

use neftpipe_protocol::ArtifactType;
use neftpipe_protocol::params::Precision;
use neftpipe_protocol::question::{Merge, Merged, Question};
use neftpipe_protocol::worker::io_failure;

use crate::cli::CliError;
use crate::cli::reference::{self, Named, Target};
use crate::exec::Workers;
use crate::exit::Exit;
use crate::store::{Artifact, Store};

/// Merges an adapter into the model that it was trained on, beside `target` first, so that there is all of it or nothing.
pub fn merge(store: &Store, named: &Named, target: &Path, precision: Precision) -> Result<Merged, CliError> {
    if named.artifact.artifact_type != ArtifactType::Adapter {
        let message = format!("{} is of type {}: --merged is for adapters", named.id, named.artifact.artifact_type);
        return Err(CliError::usage(message).with_hint("leave --merged out"));
    }
    let base = base_model(store, named)?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let io = |what, path: &Path, error: &std::io::Error| CliError::from(io_failure(what, path, error));
    fs::create_dir_all(parent).map_err(|error| io("create", parent, &error))?;
    let fresh = tempfile::Builder::new().prefix(".merged-").tempdir_in(parent);
    let fresh = fresh.map_err(|error| io("write in", parent, &error))?;
    let out = fresh.path().join("model");
    fs::create_dir(&out).map_err(|error| io("create", &out, &error))?;
    let (model, adapter) = (store.view(&base)?, store.view(&named.artifact)?);
    let workers = Workers::new(crate::env::workers(), store.workers_file());
    let merged = workers.ask_torch(&Question::Merge(Merge { model, adapter, out: out.clone(), precision }))?;
    if target.exists() {
        fs::remove_dir(target).map_err(|error| io("replace", target, &error))?;
    }
    fs::rename(&out, target).map_err(|error| io("write", target, &error))?;
    Ok(merged)
}

/// The model that an adapter was trained on.
fn base_model(store: &Store, named: &Named) -> Result<Artifact, CliError> {
    let digest = named.entry.preimage.pointer("/inputs/model/0/digest").and_then(serde_json::Value::as_str);
    let Some(digest) = digest else {
        let message = format!("{} was not trained here, so its base model is not known", named.id);
        return Err(CliError::usage(message));
    };
    match reference::resolve(store, digest)? {
        Target::Entry(entry, output) => Ok(reference::of_entry(*entry, output)?.artifact),
        _ => Err(CliError::Message {
            exit: Exit::Environment,
            message: format!("the base model of {} is gone from the store", named.id),
            hint: Some("run its pipeline again".to_owned()),
        }),
    }
}

/// How much of the model is other than the base, and what bf16 would leave of that.
pub fn text(merged: &Merged) -> String {
    match merged.bf16_surviving_share {
        None => "nothing differs from the base".to_owned(),
        Some(share) => {
            format!(
                "{} weights differ from the base; rounded to bf16, {:.1}% of them do",
                merged.changed,
                100.0 * share
            )
        }
    }
}
