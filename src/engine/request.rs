//! What an attempt is given: the request with its inputs as folders, and a command's fresh directory.

use std::fs;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use neftpipe_protocol::params::{CommandParams, DownloadParams};
use neftpipe_protocol::request::{Input, Request, RunBudget};
use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{Failure, Kind, PROTOCOL_VERSION};

use super::reuse::Reuse;
use super::stage::{StageInput, StageTask};
use crate::exec::{CommandTask, Grant, Task};
use crate::local_files;
use crate::plan::Facts;
use crate::store::Materialize;

/// The task of one attempt in this room, whose directory is there and empty.
///
/// # Errors
/// Where an input or a file cannot be laid out.
pub fn task(stage: &StageTask<'_>, reuse: &mut Reuse<'_>, grant: &Grant) -> Result<Task, Failure> {
    let (run, instance, folder) = (stage.run, &stage.instance, stage.folder());
    let known = folder.join("known");
    let any_known = reuse.begin_attempt(&folder, &known)?;
    let resolved = match instance.kind {
        Kind::Download => run.world.resolved(&instance.typed_params::<DownloadParams>()?),
        _ => None,
    };
    let request = Request {
        protocol: PROTOCOL_VERSION,
        kind: instance.kind,
        version: instance.kind.version(),
        stage: instance.id.clone(),
        params: instance.params.full(),
        inputs: inputs(stage)?,
        attempt: folder,
        out: stage.out(),
        known: any_known.then_some(known),
        partial: stage.partial()?,
        checkpoints: reuse.steps_to_save(),
        lineage: stage.lineage.clone(),
        base: instance.base.to_path_buf(),
        resolved,
        torch_worker: (instance.kind == Kind::Judge).then(|| run.executor.torch_worker()).flatten(),
        budget: budget(stage),
        offline: run.options.offline,
        threads: grant.cpus as usize,
    };
    let command = match instance.kind {
        Kind::Command => Some(command(stage, &request)?),
        _ => None,
    };
    Ok(Task { request, command, timeout: instance.timeout, gpus: grant.gpus.clone() })
}

/// What the run's stages may spend together: those that ask a service add to one ledger beside the run's records.
fn budget(stage: &StageTask<'_>) -> Option<RunBudget> {
    const LEDGER_FILE: &str = "spent";
    let run = stage.run;
    let limit_usd = run.options.max_cost_usd?;
    Some(RunBudget { limit_usd, ledger: run.store.runs_dir().join(run.id).join(LEDGER_FILE) })
}

/// Inputs by slot, as folders. A worker reads the store's own files; a command may do with its inputs what it likes, and
/// is given copies.
fn inputs(stage: &StageTask<'_>) -> Result<IndexMap<String, Vec<Input>>, Failure> {
    let mut inputs = IndexMap::with_capacity(stage.inputs.len());
    for (slot, list) in &stage.inputs {
        let copies = stage.folder().join("in").join(slot);
        let input = |(at, input): (usize, &StageInput)| match stage.instance.kind {
            Kind::Command if list.len() == 1 => copied(stage, input, copies.clone()),
            Kind::Command => copied(stage, input, copies.join(at.to_string())),
            _ => Ok(described(input, stage.run.store.view(&input.artifact)?)),
        };
        inputs.insert(slot.clone(), list.iter().enumerate().map(input).collect::<Result<Vec<_>, Failure>>()?);
    }
    Ok(inputs)
}

fn copied(stage: &StageTask<'_>, input: &StageInput, folder: PathBuf) -> Result<Input, Failure> {
    stage.run.store.materialize(&input.artifact, &folder, Materialize::Copy)?;
    Ok(described(input, folder))
}

fn described(input: &StageInput, path: PathBuf) -> Input {
    Input {
        path,
        artifact_type: input.artifact.artifact_type,
        digest: input.artifact.digest,
        stage: input.stage.clone(),
        label: input.label.clone(),
        axes: input.axes.clone(),
    }
}

fn command(stage: &StageTask<'_>, request: &Request) -> Result<CommandTask, Failure> {
    let params: CommandParams = stage.instance.typed_params()?;
    let work = stage.folder().join("work");
    fs::create_dir_all(&work).map_err(|error| io_failure("create", &work, &error))?;
    if !params.files.0.is_empty() {
        stage_files(stage, &params, &work)?;
    }
    CommandTask::new(&params, request, work)
}

/// Copies the files of a command to their relative paths. They must still be what the key says that they are.
fn stage_files(stage: &StageTask<'_>, params: &CommandParams, work: &Path) -> Result<(), Failure> {
    let planned = stage.preimage.as_ref().map(|preimage| &preimage.contents);
    for file in local_files::matching(&stage.instance.base, &params.files.0)? {
        let target = work.join(&file.name);
        let parent = target.parent().unwrap_or(work);
        fs::create_dir_all(parent).map_err(|error| io_failure("create", parent, &error))?;
        fs::copy(&file.path, &target).map_err(|error| io_failure("copy", &file.path, &error))?;
        let digest = stage.run.store.digest_file(&target)?;
        if planned.and_then(|contents| contents.get(&file.name)) != Some(&digest) {
            return Err(Failure::data(format!("{} was changed after the run began", file.name)).with_hint("run again"));
        }
    }
    Ok(())
}
