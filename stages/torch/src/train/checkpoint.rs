//! The state of a run after some step, on disk: named tensors (what is trained, the optimizer's moments and what else
//! lives from step to step) and the account so far.
//!
//! Everything else of a run (rows, rates, noise) is a pure function of the step, so a run that goes on from here
//! computes what the uninterrupted one did, bit by bit.

use std::fs;
use std::path::{Path, PathBuf};

use neftpipe_protocol::event::{EventBody, Saved};
use neftpipe_protocol::request::CHECKPOINTS_DIR;
use neftpipe_protocol::worker::{Job, io_failure, write_json};
use neftpipe_protocol::{Failure, FailureClass};

use super::account::Account;
use crate::tensor_file::{self, TensorFile};
use tch::Tensor;

const TENSORS_FILE: &str = "state.safetensors";
const ACCOUNT_FILE: &str = "account.json";

/// Tensors of a state, under their names. They share storage with what they are the state of.
pub type State = Vec<(String, Tensor)>;

/// Writes `checkpoints/<step>/` of the attempt, whole or not at all, and says so.
///
/// # Errors
/// Where it cannot be written.
pub fn save(job: &Job, state: &State, account: &Account) -> Result<(), Failure> {
    let step = account.steps();
    let folder = job.request.attempt.join(CHECKPOINTS_DIR);
    let (partial, whole) = (folder.join(format!("{step}.partial")), folder.join(step.to_string()));
    remove(&partial)?;
    remove(&whole)?;
    fs::create_dir_all(&partial).map_err(|error| io_failure("create", &partial, &error))?;
    let tensors: Vec<_> = state.iter().map(|(name, tensor)| (name.clone(), tensor.detach())).collect();
    tensor_file::write(&partial.join(TENSORS_FILE), &tensors)?;
    write_json(&partial.join(ACCOUNT_FILE), account)?;
    fs::rename(&partial, &whole).map_err(|error| io_failure("write", &whole, &error))?;
    job.emit(EventBody::Saved { what: Saved::Checkpoint { step } });
    Ok(())
}

/// Goes on from the latest known checkpoint of at most `steps` steps, if there is one: copies its tensors into those
/// that `state` names for its step.
///
/// # Errors
/// Where the folder of checkpoints cannot be read. One that is damaged is passed over with a warning: the work is
/// then done again.
pub fn resume(job: &Job, steps: u64, state: impl Fn(u64) -> State) -> Result<Option<Account>, Failure> {
    for (step, folder) in known(job, steps)? {
        match load(&folder, &state(step)) {
            Ok(account) if account.steps() == step => return Ok(Some(account)),
            Ok(account) => job.warn(
                "checkpoint_unusable",
                format!("the checkpoint of step {step} holds {} steps; going on without it", account.steps()),
            ),
            Err(failure) if failure.class == FailureClass::Data => job.warn(
                "checkpoint_unusable",
                format!("the checkpoint of step {step} cannot be used ({failure}); going on without it"),
            ),
            Err(failure) => return Err(failure),
        }
    }
    Ok(None)
}

/// Known checkpoints of at most `steps` steps, latest first.
fn known(job: &Job, steps: u64) -> Result<Vec<(u64, PathBuf)>, Failure> {
    let Some(folder) = job.request.known.as_ref().map(|known| known.join(CHECKPOINTS_DIR)) else {
        return Ok(Vec::new());
    };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_failure("read", &folder, &error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| io_failure("read", &folder, &error))?.path();
        let step = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        found.extend(step.filter(|&step| step <= steps).map(|step: u64| (step, path)));
    }
    found.sort();
    found.reverse();
    Ok(found)
}

/// Copies a saved state into this one. Nothing is copied before all of it was read.
fn load(folder: &Path, state: &State) -> Result<Account, Failure> {
    let path = folder.join(ACCOUNT_FILE);
    let text = fs::read(&path).map_err(|error| Failure::data(format!("{}: {error}", path.display())))?;
    let account: Account =
        serde_json::from_slice(&text).map_err(|error| Failure::data(format!("{}: {error}", path.display())))?;
    let file = TensorFile::open(&folder.join(TENSORS_FILE))?;
    let mut copies = Vec::new();
    for (name, target) in state {
        let saved = file.read(name, &target.size(), target.kind(), target.device())?;
        copies.push((target.shallow_clone(), saved));
    }
    tch::no_grad(|| copies.into_iter().for_each(|(mut target, saved)| target.copy_(&saved)));
    Ok(account)
}

fn remove(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_failure("remove", folder, &error)),
        _ => Ok(()),
    }
}
