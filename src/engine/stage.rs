//! One stage at work, on a thread of its own: lock, attempt, ingest, publish.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use neftpipe_protocol::event::EventBody as WorkerEvent;
use neftpipe_protocol::params::{CommandParams, DownloadParams};
use neftpipe_protocol::request::{Lineage, StageResult, Success};
use neftpipe_protocol::{ArtifactType, Digest, Failure, FailureClass, Kind};
use serde_json::Value;

use super::event::EventBody;
use super::reuse::Reuse;
use super::room::Room;
use super::waiting::Followed;
use super::{Run, attempt, disk, request};
use crate::exec::{self, Outcome};
use crate::plan::{self, Preimage, Reason};
use crate::spec::model::Instance;
use crate::store::{Artifact, Entry, Holder, Lock, Lookup, Manifest, Outputs, Waiting};

/// How often a stage that waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Everything that one stage needs.
pub struct StageTask<'r> {
    pub run: &'r Run<'r>,
    pub index: usize,
    pub instance: Instance,
    /// The ingredients of its key; none for a source that is yet to be resolved.
    pub preimage: Option<Preimage>,
    /// Inputs by slot, with what the worker is told of each.
    pub inputs: IndexMap<String, Vec<StageInput>>,
    pub lineage: Option<Lineage>,
    /// Why it runs.
    pub reasons: Vec<Reason>,
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
    /// Its program ran to the end, and what came out is published.
    Executed(Arc<Manifest>),
    /// Another process had done the work meanwhile.
    Found(Arc<Manifest>),
    /// It failed; its program may have run or not.
    Failed { failure: Failure, ran: bool },
    /// It was asked to stop.
    Interrupted,
}

/// What is known of a stage's attempts, however they ended.
struct Tried {
    /// When the last of them began.
    began: Instant,
    /// Whether a program may have run.
    ran: bool,
}

/// What stands for the key of a source that is yet to be resolved: what is asked of the source. Those who ask the same of
/// it wait for one another, so that they get the same.
pub fn source_identity(instance: &Instance) -> Digest {
    let asked = ["from", "select"].map(|name| instance.params[name].clone());
    Digest::of_value("neftpipe 2026 unresolved source", asked.as_slice())
}

impl StageTask<'_> {
    /// Carries the stage out. A panic is a failure of this stage, not the end of the run.
    pub fn carry_out(&self, mut reuse: Reuse<'_>, room: &mut Room) -> Ended {
        let mut tried = Tried { began: Instant::now(), ran: false };
        let ended = catch_unwind(AssertUnwindSafe(|| self.locked(&mut reuse, &mut tried, room)));
        let ended = ended.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
            Err(Failure::internal(format!("{}: {}", self.instance.id, text.unwrap_or("a panic without a message"))))
        });
        let at_fault = |failure| disk::blame_if_full(failure, tried.began, self.run.store, &self.folder());
        ended.unwrap_or_else(|failure| Ended::Failed { failure: at_fault(failure), ran: tried.ran })
    }

    fn locked(&self, reuse: &mut Reuse<'_>, tried: &mut Tried, room: &mut Room) -> Result<Ended, Failure> {
        let Some(_lock) = self.lock(&self.identity(), room)? else { return Ok(Ended::Interrupted) };
        let resolved_meanwhile = if self.preimage.is_none() { self.resolved_meanwhile()? } else { None };
        if let (Some(preimage), false) = (self.preimage.as_ref().or(resolved_meanwhile.as_ref()), self.is_forced())
            && let Lookup::Hit(manifest) = self.run.store.lookup(&preimage.key())?
        {
            return Ok(Ended::Found(manifest));
        }
        if !self.wait_for_shared_steps(reuse, room)? || !room.enter() {
            return Ok(Ended::Interrupted);
        }
        self.attempts(reuse, tried, room)
    }

    /// Waits until no other arm computes the steps that this one would compute next; it then goes on from where that one
    /// saved. False where the run is to stop meanwhile.
    fn wait_for_shared_steps(&self, reuse: &mut Reuse<'_>, room: &mut Room) -> Result<bool, Failure> {
        while let Some(next) = reuse.next_state() {
            let Some(lock) = self.lock(&next, room)? else { return Ok(false) };
            // Its holder may have computed the step.
            if reuse.next_state() == Some(next) {
                reuse.compute(self.holder(), lock);
                break;
            }
        }
        Ok(true)
    }

    /// The ingredients of a source that another process has resolved since this run began.
    fn resolved_meanwhile(&self) -> Result<Option<Preimage>, Failure> {
        self.run.world.lock().reread()?;
        plan::preimage(self.run.pipeline, self.index, &|_| None, self.run.world)
    }

    /// What no two processes do at a time.
    fn identity(&self) -> Digest {
        self.preimage.as_ref().map_or_else(|| source_identity(&self.instance), Preimage::key)
    }

    /// Where a download over the network keeps what it has, should it break off. The lock makes it this stage's own.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub fn partial(&self) -> Result<Option<PathBuf>, Failure> {
        let from = self.instance.params["from"].as_str().unwrap_or_default();
        if self.instance.kind != Kind::Download || from.starts_with("file:") {
            return Ok(None);
        }
        Ok(Some(self.run.store.partial_download(&self.identity())?))
    }

    fn is_forced(&self) -> bool {
        self.reasons.contains(&Reason::Forced)
    }

    /// Waits until no other process does the same work, and tells how far that one is. None where the run is to stop
    /// meanwhile.
    fn lock(&self, identity: &Digest, room: &mut Room) -> Result<Option<Lock>, Failure> {
        let mut followed: Option<Followed> = None;
        loop {
            let holder = match self.run.store.try_lock(identity, &self.holder())? {
                Waiting::Held(lock) => return Ok(Some(lock)),
                Waiting::Busy(holder) => holder,
            };
            let mut other = match followed.take().filter(|known| holder.is_none() || known.holder == holder) {
                Some(known) => known,
                None => self.begin_waiting(holder, room),
            };
            let name = other.name();
            other.news().for_each(|body| self.pass_on(body, Some(&name), room));
            followed = Some(other);
            if !room.sleep(LOOK_AGAIN) {
                return Ok(None);
            }
        }
    }

    fn begin_waiting(&self, holder: Option<Holder>, room: &Room) -> Followed {
        let followed = Followed::new(self.run.store, holder);
        room.tell(EventBody::StageWaiting { stage: self.instance.id.clone(), holder: followed.name() });
        followed
    }

    /// What others read who wait for this stage.
    fn holder(&self) -> Holder {
        Holder::of_stage(self.run.id, &self.instance.id)
    }

    fn attempts(&self, reuse: &mut Reuse<'_>, tried: &mut Tried, room: &mut Room) -> Result<Ended, Failure> {
        let mut backoff = self.instance.retry.backoff;
        let mut number = 1;
        loop {
            tried.began = Instant::now();
            let outcome = self.attempt(reuse, number, room)?;
            tried.ran |= !matches!(outcome, Outcome::NotStarted(_));
            let failed = match outcome {
                Outcome::Finished(StageResult::Succeeded(success)) => {
                    return self.take(*success, tried.began.elapsed());
                }
                Outcome::Finished(StageResult::Interrupted) | Outcome::Cancelled => {
                    return Ok(Ended::Interrupted);
                }
                failed => failed,
            };
            let mendable = self.is_mendable(&failed);
            let failure = self.failure_of(failed);
            if number >= self.instance.retry.attempts || !mendable {
                return Err(failure);
            }
            let (stage, seconds) = (self.instance.id.clone(), backoff.as_secs_f64());
            room.tell(EventBody::StageRetrying { stage, message: failure.message, seconds });
            if !room.sleep(backoff) || !room.enter() {
                return Ok(Ended::Interrupted);
            }
            backoff *= 2;
            number += 1;
        }
    }

    fn attempt(&self, reuse: &mut Reuse<'_>, number: u32, room: &Room) -> Result<Outcome, Failure> {
        let dir = self.folder();
        self.run.store.look_at_space(); // an attempt before this one goes
        attempt::make(&dir)?;
        let task = request::task(self, reuse, room.grant())?;
        room.tell(EventBody::StageStarted {
            stage: self.instance.id.clone(),
            kind: self.instance.kind,
            key: self.preimage.as_ref().map(Preimage::key),
            attempt: number,
            reasons: self.reasons.clone(),
        });
        let mut observe = |event: neftpipe_protocol::event::Event| self.heard(event.body, reuse, room);
        let outcome = self.run.executor.execute(&task, &mut observe, &self.run.stop);
        if let Err(failure) = reuse.keep_rows(&dir) {
            self.warn_not_kept(&failure, room);
        }
        attempt::keep_logs(&dir, &self.logs());
        Ok(outcome)
    }

    /// Passes on what a worker said, and keeps what it saved. What cannot be kept costs time, not the result.
    fn heard(&self, body: WorkerEvent, reuse: &mut Reuse<'_>, room: &Room) {
        match body {
            WorkerEvent::Saved { what } => {
                if let Err(failure) = reuse.keep(&self.folder(), &what) {
                    self.warn_not_kept(&failure, room);
                }
            }
            body => self.pass_on(body, None, room),
        }
    }

    /// Passes on what a worker said: our own, or that of another process which does the same work.
    fn pass_on(&self, body: WorkerEvent, other: Option<&str>, room: &Room) {
        let stage = self.instance.id.clone();
        match body {
            WorkerEvent::Progress { done, total, unit, message } => {
                let message = other.map_or(message, |other| Some(format!("in {other}")));
                room.tell(EventBody::StageProgress { stage, done, total, unit, message });
            }
            WorkerEvent::Metric { step, values } => room.tell(EventBody::StageMetric { stage, step, values }),
            WorkerEvent::Warning { code, message } => room.tell(EventBody::StageWarning { stage, code, message }),
            WorkerEvent::Started { .. }
            | WorkerEvent::Sample { .. }
            | WorkerEvent::Saved { .. }
            | WorkerEvent::Finished => {}
        }
    }

    fn warn_not_kept(&self, failure: &Failure, room: &Room) {
        let message = format!("what was saved on the way is not kept: {failure}");
        room.tell(EventBody::StageWarning { stage: self.instance.id.clone(), code: "not_kept".to_owned(), message });
    }

    /// The attempt directory.
    pub fn folder(&self) -> PathBuf {
        attempt::of_stage(self.run.store, self.run.id, &self.instance.id)
    }

    /// Where outputs go.
    pub fn out(&self) -> PathBuf {
        self.folder().join("out")
    }

    fn logs(&self) -> PathBuf {
        attempt::logs_of_stage(self.run.store, self.run.id, &self.instance.id)
    }

    /// Takes the outputs of a finished attempt into the store, and publishes them under the key.
    fn take(&self, success: Success, spent: Duration) -> Result<Ended, Failure> {
        let preimage = self.final_preimage(success.resolved.as_ref())?;
        // Whoever reads in the lock file what the source resolved to waits for this result.
        let _lock =
            self.preimage.is_none().then(|| self.run.store.try_lock(&preimage.key(), &self.holder())).transpose()?;
        self.run.world.lock().save()?;
        let _publishing = self.run.store.publishing()?;
        let outputs = self.ingest(&success.outputs)?;
        let ingredients = serde_json::to_value(&preimage).expect("ingredients serialise");
        let mut entry = Entry::new(preimage.key(), ingredients, self.instance.id.clone(), outputs);
        entry.metrics = success.metrics;
        entry.measured = success.measured;
        entry.measured.insert("seconds".to_owned(), spent.as_secs_f64().into());
        entry.provenance = success.provenance;
        entry.provenance.insert("run".to_owned(), self.run.id.into());
        let logs = self.logs();
        let logs = logs.strip_prefix(self.run.store.root()).unwrap_or(&logs);
        entry.provenance.insert("logs".to_owned(), logs.to_string_lossy().into());
        self.run.store.publish(&entry)?;
        self.run.store.remember_history(&entry)?;
        self.run.store.look_at_space();
        attempt::remove_folder(&self.folder())?;
        Ok(Ended::Executed(Arc::new(Manifest::from(entry))))
    }

    /// The ingredients under which the result is published: with what a movable source resolved to, and only if a local
    /// source is still what it was when the stage began to read it.
    fn final_preimage(&self, resolved: Option<&Value>) -> Result<Preimage, Failure> {
        if self.instance.kind != Kind::Download {
            return self.preimage.clone().ok_or_else(|| Failure::internal("it ran before its key was known"));
        }
        if let Some(resolved) = resolved {
            self.run.world.lock().set(&self.instance.typed_params::<DownloadParams>()?, resolved);
        }
        let now = plan::preimage(self.run.pipeline, self.index, &|_| None, self.run.world)?
            .ok_or_else(|| Failure::internal("its worker did not say what the source resolved to"))?;
        match &self.preimage {
            Some(then) if then.contents != now.contents => Err(changed(then, &now)),
            _ => Ok(now),
        }
    }

    fn ingest(&self, types: &IndexMap<String, ArtifactType>) -> Result<Outputs, Failure> {
        let command = match self.instance.kind {
            Kind::Command => Some(self.instance.typed_params::<CommandParams>()?),
            _ => None,
        };
        let mut outputs = Outputs::with_capacity(types.len());
        for (name, wanted) in &self.instance.outputs {
            let found = *types.get(name).ok_or_else(|| {
                Failure::internal(format!("{}: its worker left no output `{name}`", self.instance.id))
            })?;
            if wanted.is_some_and(|wanted| wanted != found) {
                let wanted = wanted.map_or_else(String::new, |wanted| wanted.to_string());
                return Err(Failure::data(format!("its output `{name}` is {found}, where {wanted} is wanted")));
            }
            let folder = match &command {
                Some(params) => exec::output_path(params, &self.out(), name),
                None => self.out().join(name),
            };
            outputs.insert(name.clone(), self.run.store.ingest(&folder, found)?);
        }
        Ok(outputs)
    }

    /// Whether another attempt could end otherwise: a refusal of data by a worker of ours comes again, a command of the
    /// user's may not.
    fn is_mendable(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Finished(StageResult::Failed(failure)) => match failure.class {
                FailureClass::Environment => true,
                FailureClass::Data => self.instance.kind == Kind::Command,
                FailureClass::Usage | FailureClass::Internal => false,
            },
            Outcome::Died { .. } | Outcome::TimedOut(_) => true,
            Outcome::Finished(_) | Outcome::Cancelled | Outcome::NotStarted(_) => false,
        }
    }

    fn failure_of(&self, outcome: Outcome) -> Failure {
        match outcome {
            Outcome::Finished(StageResult::Failed(failure)) | Outcome::NotStarted(failure) => failure,
            Outcome::Died { status, killed } => {
                let message = exec::with_last_lines(format!("its program died: {status}"), &self.logs());
                if killed {
                    Failure::environment(message)
                        .with_hint("somebody, or the kernel for want of memory, killed it; run again to go on")
                } else if self.instance.kind == Kind::Command {
                    Failure::data(message)
                } else {
                    Failure::internal(message)
                }
            }
            Outcome::TimedOut(limit) => {
                let kept = match self.instance.kind {
                    Kind::Train => "; training goes on from its last checkpoint",
                    Kind::Generate | Kind::Judge => "; what it had made of its rows is kept",
                    _ => "",
                };
                Failure::data(format!("it ran longer than its timeout of {limit:?}"))
                    .with_hint(format!("raise its `timeout`{kept}"))
            }
            Outcome::Finished(StageResult::Succeeded(_) | StageResult::Interrupted) | Outcome::Cancelled => {
                Failure::internal(format!("{}: no failure", self.instance.id))
            }
        }
    }
}

fn changed(then: &Preimage, now: &Preimage) -> Failure {
    let differs = |(name, digest): &(&String, &Digest)| then.contents.get(*name) != Some(*digest);
    let name = now
        .contents
        .iter()
        .find(differs)
        .map(|(name, _)| name)
        .or_else(|| then.contents.keys().find(|name| !now.contents.contains_key(*name)));
    let name = name.map_or("its source", String::as_str);
    Failure::data(format!("{name} was changed while the stage read it: the result is not kept")).with_hint("run again")
}
