//! One stage at work, on a thread of its own: lock, attempt, ingest, publish.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use neftpipe_protocol::event::{EventBody as WorkerEvent, Saved};
use neftpipe_protocol::params::{CommandParams, DownloadParams};
use neftpipe_protocol::request::{Input, Lineage, Request, StageResult, Success};
use neftpipe_protocol::worker::io_failure;
use neftpipe_protocol::{ArtifactType, Digest, Failure, FailureClass, Kind, PROTOCOL_VERSION};
use serde_json::Value;

use super::attempt;
use super::event::EventBody;
use super::reuse::Reuse;
use crate::exec::{self, CommandTask, Executor, Grant, Level, Outcome, Stop, Task};
use crate::local_files;
use crate::plan::{Preimage, Reason};
use crate::spec::model::Instance;
use crate::store::{Artifact, Entry, Lookup, Store, Waiting};

/// How often a stage that waits for another process looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Everything that one stage needs, owned, so that its thread shares nothing with the dispatcher but the store.
pub struct StageTask<'a> {
    pub index: usize,
    pub instance: Instance,
    pub preimage: Option<Preimage>,
    pub forced: bool,
    /// Inputs by slot, with what the worker is told of each.
    pub inputs: IndexMap<String, Vec<StageInput>>,
    pub lineage: Option<Lineage>,
    pub resolved: Option<Value>,
    pub base: PathBuf,
    pub offline: bool,
    pub run: String,
    /// Why it runs.
    pub reasons: Vec<Reason>,
    pub grant: Grant,
    pub store: &'a Store,
    pub executor: &'a dyn Executor,
    pub stop: Stop,
}

/// An input artifact and who made it.
pub struct StageInput {
    pub artifact: Artifact,
    pub stage: String,
    pub label: Option<String>,
    pub axes: IndexMap<String, Value>,
}

/// How a stage's thread ended.
pub enum Ended {
    /// Its worker ran to the end: what came out, and what a movable source resolved to.
    Executed(Box<Finished>),
    /// Another process had done the work meanwhile.
    Found(Box<Entry>),
    /// It failed.
    Failed(Failure),
    /// It was asked to stop.
    Interrupted,
}

/// What came out of a stage.
pub struct Finished {
    pub success: Success,
    pub outputs: IndexMap<String, Artifact>,
    pub seconds: f64,
    /// The lock of the key is held until the result is published.
    pub lock: crate::store::Lock,
    /// Folder of the logs, relative to the store.
    pub logs: String,
}

impl StageTask<'_> {
    /// Carries the stage out.
    pub fn carry_out(&self, tell: &mut dyn FnMut(EventBody)) -> Ended {
        match self.locked(tell) {
            Ok(ended) => ended,
            Err(failure) => Ended::Failed(failure),
        }
    }

    fn locked(&self, tell: &mut dyn FnMut(EventBody)) -> Result<Ended, Failure> {
        let lock = loop {
            match self.store.try_lock(&self.identity(), &format!("run {}", self.run))? {
                Waiting::Held(lock) => break lock,
                Waiting::Busy(holder) => {
                    tell(EventBody::StageWaiting { stage: self.instance.id.clone(), holder });
                    if !self.wait_for_other()? {
                        return Ok(Ended::Interrupted);
                    }
                }
            }
        };
        if let (Some(preimage), false) = (&self.preimage, self.forced)
            && let Lookup::Hit(entry) = self.store.lookup(&preimage.key())?
        {
            return Ok(Ended::Found(entry));
        }
        self.attempts(lock, tell)
    }

    /// Waits until the lock is free. Says whether to go on.
    fn wait_for_other(&self) -> Result<bool, Failure> {
        loop {
            if self.is_stopping() {
                return Ok(false);
            }
            std::thread::sleep(LOOK_AGAIN);
            if let Waiting::Held(_free_again) = self.store.try_lock(&self.identity(), "")? {
                return Ok(true);
            }
        }
    }

    /// The key; for a source that is yet to be resolved, what is asked of it.
    fn identity(&self) -> Digest {
        match &self.preimage {
            Some(preimage) => preimage.key(),
            None => Digest::of_value("neftpipe 2026 unresolved source", &self.instance.params),
        }
    }

    fn attempts(&self, lock: crate::store::Lock, tell: &mut dyn FnMut(EventBody)) -> Result<Ended, Failure> {
        let artifacts = self.inputs.iter().map(|(slot, inputs)| {
            let artifacts: Vec<Artifact> = inputs.iter().map(|input| input.artifact.clone()).collect();
            (slot.clone(), artifacts)
        });
        let mut reuse = Reuse::new(self.store, &self.instance, self.preimage.as_ref(), &artifacts.collect())?;
        let retry = &self.instance.retry;
        let mut backoff = retry.backoff;
        for number in 1.. {
            let began = Instant::now();
            match self.attempt(&mut reuse, number, tell)? {
                Outcome::Finished(StageResult::Succeeded(success)) => {
                    return self.take(*success, began.elapsed(), lock);
                }
                Outcome::Finished(StageResult::Interrupted) | Outcome::Cancelled => return Ok(Ended::Interrupted),
                failed => {
                    let failure = failure_of(failed);
                    let hopeless = matches!(failure.class, FailureClass::Usage | FailureClass::Internal);
                    if number >= retry.attempts || hopeless || self.is_stopping() {
                        return Ok(Ended::Failed(failure));
                    }
                    tell(EventBody::StageRetrying {
                        stage: self.instance.id.clone(),
                        message: failure.message,
                        seconds: backoff.as_secs_f64(),
                    });
                    if !self.sleep(backoff) {
                        return Ok(Ended::Interrupted);
                    }
                    backoff *= 2;
                }
            }
        }
        unreachable!("the loop over attempts only ends by returning")
    }

    fn is_stopping(&self) -> bool {
        self.stop.level() > Level::Run
    }

    /// Sleeps, unless the run is to stop. Says whether to go on.
    fn sleep(&self, span: Duration) -> bool {
        let until = Instant::now() + span;
        while Instant::now() < until && !self.is_stopping() {
            std::thread::sleep(LOOK_AGAIN.min(span));
        }
        !self.is_stopping()
    }

    fn folder(&self) -> PathBuf {
        attempt::folder(self.store, &self.run).join(attempt::slug(self.index, &self.instance.id))
    }

    fn attempt(&self, reuse: &mut Reuse<'_>, number: u32, tell: &mut dyn FnMut(EventBody)) -> Result<Outcome, Failure> {
        let dir = self.folder();
        attempt::make(&dir)?;
        let task = self.task(reuse)?;
        tell(EventBody::StageStarted {
            stage: self.instance.id.clone(),
            kind: self.instance.kind,
            key: self.preimage.as_ref().map(Preimage::key),
            attempt: number,
            reasons: self.reasons.clone(),
        });
        reuse.begin_attempt();
        let mut broken = None;
        let mut observe = |event: neftpipe_protocol::event::Event| {
            if let Err(failure) = self.heard(event.body, reuse, tell) {
                broken.get_or_insert(failure);
            }
        };
        let outcome = self.executor.execute(&task, &mut observe, &self.stop);
        reuse.keep_rows(&dir)?;
        attempt::keep_logs(&dir, &self.logs());
        match (broken, &outcome) {
            // Checkpoints that could not be kept cost time, not the result.
            (Some(failure), Outcome::Finished(StageResult::Succeeded(_))) => {
                tell(EventBody::StageWarning {
                    stage: self.instance.id.clone(),
                    code: "not_kept".into(),
                    message: failure.message,
                });
            }
            (Some(failure), _) => return Err(failure),
            (None, _) => {}
        }
        Ok(outcome)
    }

    fn logs(&self) -> PathBuf {
        super::logs_of(&self.store.runs_dir(), &self.run, &attempt::slug(self.index, &self.instance.id))
    }

    /// Passes on what a worker said, and keeps what it saved.
    fn heard(&self, body: WorkerEvent, reuse: &mut Reuse<'_>, tell: &mut dyn FnMut(EventBody)) -> Result<(), Failure> {
        let stage = self.instance.id.clone();
        match body {
            WorkerEvent::Progress { done, total, unit, message } => {
                tell(EventBody::StageProgress { stage, done, total, unit, message });
            }
            WorkerEvent::Metric { step, values } => tell(EventBody::StageMetric { stage, step, values }),
            WorkerEvent::Warning { code, message } => tell(EventBody::StageWarning { stage, code, message }),
            WorkerEvent::Saved { what: Saved::Rows { .. } } => reuse.keep_rows(&self.folder())?,
            WorkerEvent::Saved { what: Saved::Checkpoint { step } } => reuse.keep_checkpoint(&self.folder(), step)?,
            WorkerEvent::Started { .. } | WorkerEvent::Sample { .. } | WorkerEvent::Finished => {}
        }
        Ok(())
    }

    fn task(&self, reuse: &Reuse<'_>) -> Result<Task, Failure> {
        let known = self.folder().join("known");
        let any_known = reuse.lay_out(&known)?;
        let mut inputs = IndexMap::new();
        for (slot, list) in &self.inputs {
            let list = list.iter().map(|input| self.input(input)).collect::<Result<Vec<_>, Failure>>()?;
            inputs.insert(slot.clone(), list);
        }
        let request = Request {
            protocol: PROTOCOL_VERSION,
            kind: self.instance.kind,
            version: self.instance.kind.version(),
            stage: self.instance.id.clone(),
            params: self.instance.params.clone(),
            inputs,
            attempt: self.folder(),
            out: self.out(),
            known: any_known.then_some(known),
            checkpoints: reuse.checkpoints().to_vec(),
            lineage: self.lineage.clone(),
            base: self.base.clone(),
            resolved: self.resolved.clone(),
            torch_worker: self.executor.torch_worker(),
            offline: self.offline,
            threads: self.grant.cpus as usize,
        };
        let command = match self.command()? {
            Some(params) => Some(self.stage_files(&params).and_then(|dir| CommandTask::new(&params, &request, dir))?),
            None => None,
        };
        Ok(Task { request, command, timeout: self.instance.timeout, gpus: self.grant.gpus.clone() })
    }

    fn out(&self) -> PathBuf {
        self.folder().join("out")
    }

    fn input(&self, input: &StageInput) -> Result<Input, Failure> {
        Ok(Input {
            path: self.store.view(&input.artifact)?,
            artifact_type: input.artifact.artifact_type,
            digest: input.artifact.digest,
            stage: input.stage.clone(),
            label: input.label.clone(),
            axes: input.axes.clone(),
        })
    }

    fn command(&self) -> Result<Option<CommandParams>, Failure> {
        if self.instance.kind != Kind::Command {
            return Ok(None);
        }
        serde_json::from_value(self.instance.params.clone())
            .map(Some)
            .map_err(|error| Failure::internal(format!("{}: parameters: {error}", self.instance.id)))
    }

    /// A fresh folder that holds the files of a command at their relative paths.
    fn stage_files(&self, params: &CommandParams) -> Result<PathBuf, Failure> {
        let work = self.folder().join("work");
        fs::create_dir_all(&work).map_err(|error| io_failure("create", &work, &error))?;
        if params.files.0.is_empty() {
            return Ok(work);
        }
        for file in local_files::matching(&self.base, &params.files.0)? {
            let target = work.join(&file.name);
            let parent = target.parent().unwrap_or(&work);
            fs::create_dir_all(parent).map_err(|error| io_failure("create", parent, &error))?;
            fs::copy(&file.path, &target).map_err(|error| io_failure("copy", &file.path, &error))?;
        }
        Ok(work)
    }

    /// Takes the outputs of a finished attempt into the store.
    fn take(&self, success: Success, spent: Duration, lock: crate::store::Lock) -> Result<Ended, Failure> {
        self.check_sources()?;
        let dir = self.folder();
        let command = self.command()?;
        let mut outputs = IndexMap::new();
        for (name, artifact_type) in &success.outputs {
            self.check_type(name, *artifact_type)?;
            let folder = match &command {
                Some(params) => exec::output_path(params, &self.out(), name),
                None => self.out().join(name),
            };
            outputs.insert(name.clone(), self.store.ingest(&folder, *artifact_type)?);
        }
        if let Some(missing) = self.instance.outputs.keys().find(|name| !outputs.contains_key(*name)) {
            return Err(Failure::internal(format!("{} left no output `{missing}`", self.instance.id)));
        }
        attempt::remove_folder(&dir)?;
        let logs = self.logs().strip_prefix(self.store.root()).unwrap_or(&self.logs()).display().to_string();
        Ok(Ended::Executed(Box::new(Finished { success, outputs, seconds: spent.as_secs_f64(), lock, logs })))
    }

    fn check_type(&self, name: &str, found: ArtifactType) -> Result<(), Failure> {
        match self.instance.outputs.get(name) {
            Some(Some(wanted)) if *wanted != found => {
                Err(Failure::data(format!("its output `{name}` is {found}, and the pipeline takes it for {wanted}")))
            }
            Some(_) => Ok(()),
            None => Err(Failure::internal(format!("it left an output `{name}` that its kind does not have"))),
        }
    }

    /// A local source that was edited while the stage read it must not be published under the key of what it was.
    fn check_sources(&self) -> Result<(), Failure> {
        let Some(preimage) = &self.preimage else { return Ok(()) };
        let files = match self.instance.kind {
            Kind::Download => {
                let params: DownloadParams = serde_json::from_value(self.instance.params.clone())
                    .map_err(|error| Failure::internal(error.to_string()))?;
                let Some(path) = params.from.strip_prefix("file:") else { return Ok(()) };
                local_files::of_source(&self.base.join(path), &params.select.0)?
            }
            Kind::Command if !preimage.contents.is_empty() => {
                let params = self.command()?.expect("a command has its parameters");
                local_files::matching(&self.base, &params.files.0)?
            }
            _ => return Ok(()),
        };
        let now = files.iter().map(|file| Ok((file.name.clone(), self.store.digest_file(&file.path)?)));
        let now = now.collect::<Result<IndexMap<String, Digest>, Failure>>()?;
        if now == preimage.contents {
            return Ok(());
        }
        let differs = now.iter().find(|(name, digest)| preimage.contents.get(*name) != Some(*digest));
        let name = differs.map_or("a file", |(name, _)| name.as_str());
        Err(Failure::data(format!("{name} was changed while the stage read it: the result is not kept"))
            .with_hint("run again"))
    }
}

fn failure_of(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Finished(StageResult::Failed(failure)) => failure,
        Outcome::Died { status, killed } => {
            let failure = Failure::environment(format!("its worker died: {status}"));
            if killed {
                failure.with_hint("somebody, or the kernel for want of memory, killed it; run again to go on")
            } else {
                failure
            }
        }
        Outcome::TimedOut(limit) => Failure::data(format!("it ran longer than its timeout of {limit:?}"))
            .with_hint("raise `timeout` of the stage; training goes on from its last checkpoint"),
        Outcome::Finished(StageResult::Succeeded(_) | StageResult::Interrupted) | Outcome::Cancelled => {
            Failure::internal("not a failure")
        }
    }
}
