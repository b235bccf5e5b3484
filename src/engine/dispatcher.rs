//! The sole owner of the state of a run: what is ready, what is at work, what is done.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::Scope;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::params::DownloadParams;
use neftpipe_protocol::{Digest, Failure, FailureClass, Kind};

use super::event::{Event, EventBody, RunOutcome, StageOutcome};
use super::reuse;
use super::stage::{Ended, Finished, StageInput, StageTask};
use super::{Run, Summary};
use crate::exec::{Grant, Level, Pool, Want, WantGpus};
use crate::facts;
use crate::plan::lineage::{self, Made};
use crate::plan::{self, Facts, Found, Preimage};
use crate::spec::model::{Gpus, Instance, Pipeline};
use crate::store::{Artifact, Entry, Lookup};

/// How long the dispatcher waits for news before it looks whether it should stop.
const TICK: Duration = Duration::from_millis(50);

/// Carries out a run and tells its events.
pub fn dispatch(run: &Run<'_>, emit: &mut dyn FnMut(&Event)) -> Result<Summary, Failure> {
    let mut pipeline = run.pipeline.clone();
    std::thread::scope(|scope| Dispatcher::new(run, emit).go(scope, &mut pipeline))
}

/// What a stage's thread says.
enum News {
    Event(EventBody),
    Ended(usize, Box<Ended>),
}

/// A finished instance.
struct Done {
    key: Digest,
    outputs: IndexMap<String, Digest>,
    entry: Box<Entry>,
}

struct AtWork {
    grant: Grant,
    identity: Digest,
    preimage: Option<Preimage>,
    began: Instant,
}

struct Dispatcher<'r, 'e> {
    run: &'r Run<'r>,
    emit: &'e mut dyn FnMut(&Event),
    pool: Pool,
    sender: Sender<News>,
    news: Receiver<News>,
    done: Vec<Option<Done>>,
    /// Inputs that an instance still waits for.
    waits_for: Vec<usize>,
    dependents: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
    at_work: BTreeMap<usize, AtWork>,
    /// Instances whose key is at work under another instance, by that instance.
    followers: HashMap<usize, Vec<usize>>,
    over: HashSet<usize>,
    tally: Tally,
    failures: Vec<FailureClass>,
    warned: HashSet<String>,
}

#[derive(Default)]
struct Tally {
    executed: usize,
    cached: usize,
    failed: usize,
    blocked: usize,
    saved_seconds: f64,
}

impl<'r, 'e> Dispatcher<'r, 'e> {
    fn new(run: &'r Run<'r>, emit: &'e mut dyn FnMut(&Event)) -> Self {
        let count = run.pipeline.instances.len();
        let (sender, news) = mpsc::channel();
        let mut dispatcher = Self {
            run,
            emit,
            pool: Pool::new(run.machine.clone(), run.options.jobs.unwrap_or(usize::MAX)),
            sender,
            news,
            done: (0..count).map(|_| None).collect(),
            waits_for: vec![0; count],
            dependents: vec![Vec::new(); count],
            ready: BTreeSet::new(),
            at_work: BTreeMap::new(),
            followers: HashMap::new(),
            over: HashSet::new(),
            tally: Tally::default(),
            failures: Vec::new(),
            warned: HashSet::new(),
        };
        for index in run.selection.indexes() {
            let needs: BTreeSet<usize> =
                run.pipeline.instances[index].inputs.values().flatten().map(|input| input.instance).collect();
            dispatcher.waits_for[index] = needs.len();
            if needs.is_empty() {
                dispatcher.ready.insert(index);
            }
            needs.into_iter().for_each(|need| dispatcher.dependents[need].push(index));
        }
        dispatcher
    }

    fn go<'scope>(mut self, scope: &'scope Scope<'scope, '_>, pipeline: &mut Pipeline) -> Result<Summary, Failure>
    where
        'r: 'scope,
    {
        let began = Instant::now();
        let stages = self.run.selection.indexes().count();
        self.tell(EventBody::RunStarted { run: self.run.id.to_owned(), pipeline: pipeline.name.clone(), stages });
        loop {
            self.start_what_can(scope, pipeline)?;
            if self.at_work.is_empty() {
                break;
            }
            self.listen(pipeline)?;
        }
        let outcome = match (self.failures.is_empty(), self.is_stopping() && self.over.len() < stages) {
            (_, true) => RunOutcome::Interrupted,
            (false, _) => RunOutcome::Failed,
            (true, _) => RunOutcome::Succeeded,
        };
        let Tally { executed, cached, failed, blocked, saved_seconds } = self.tally;
        let run = self.run.id.to_owned();
        let seconds = began.elapsed().as_secs_f64();
        self.tell(EventBody::RunFinished { run, outcome, executed, cached, failed, blocked, seconds, saved_seconds });
        Ok(Summary { outcome, failures: self.failures })
    }

    fn tell(&mut self, body: EventBody) {
        (self.emit)(&Event::now(body));
    }

    fn is_stopping(&self) -> bool {
        self.run.stop.level() > Level::Run
    }

    fn is_ending(&self) -> bool {
        self.is_stopping() || (self.run.options.fail_fast && !self.failures.is_empty())
    }

    /// Settles what is cached and starts what the machine holds, until nothing more can be.
    fn start_what_can<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        pipeline: &mut Pipeline,
    ) -> Result<(), Failure>
    where
        'r: 'scope,
    {
        let mut starved = BTreeSet::new();
        while let Some(index) = self.ready.pop_first() {
            if self.is_ending() {
                break;
            }
            if !self.begin(scope, pipeline, index)? {
                starved.insert(index);
            }
        }
        self.ready.extend(starved);
        Ok(())
    }

    /// Begins one instance. Says whether it is no longer ready: settled, at work, or following another.
    fn begin<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        pipeline: &mut Pipeline,
        index: usize,
    ) -> Result<bool, Failure>
    where
        'r: 'scope,
    {
        let preimage = match plan::preimage(pipeline, index, &|at| self.made(at), self.run.world) {
            Ok(preimage) => preimage,
            Err(failure) => {
                self.fail(pipeline, index, None, failure, 0.0);
                return Ok(true);
            }
        };
        let forced = self.run.forced.contains(index);
        let key = preimage.as_ref().map(Preimage::key);
        if let (Some(key), false) = (&key, forced)
            && let Lookup::Hit(entry) = self.run.store.lookup(key)?
        {
            self.cached(pipeline, index, *key, entry);
            return Ok(true);
        }
        let instance = &pipeline.instances[index];
        let identity = key.unwrap_or_else(|| Digest::of_value("neftpipe 2026 unresolved source", &instance.params));
        if let Some((&leader, _)) = self.at_work.iter().find(|(_, work)| work.identity == identity) {
            self.followers.entry(leader).or_default().push(index);
            return Ok(true);
        }
        let (want, cut) = match self.run.machine.fit(self.wish(instance)) {
            Ok(fitting) => fitting,
            Err(failure) => {
                self.fail(pipeline, index, key, failure, 0.0);
                return Ok(true);
            }
        };
        let Some(grant) = self.pool.take(&want, &self.run.machine) else { return Ok(false) };
        if let Some(message) = cut.filter(|message| self.warned.insert(message.clone())) {
            self.tell(EventBody::RunWarning { code: "resources_capped".to_owned(), message });
        }
        self.start(scope, pipeline, index, preimage, identity, grant);
        Ok(true)
    }

    /// What an instance asks of the machine: all cores where it says nothing, but one for what mostly waits.
    fn wish(&self, instance: &Instance) -> Want {
        let usual = if instance.kind == Kind::Download { 1 } else { self.run.machine.cpus };
        let gpus = match instance.resources.gpus {
            Gpus::Count(count) => WantGpus::Exactly(count),
            Gpus::Auto if instance.kind.needs_torch() => WantGpus::OneIfAny,
            Gpus::Auto => WantGpus::Indifferent,
        };
        Want {
            cpus: instance.resources.cpus.unwrap_or(usual),
            memory_bytes: instance.resources.memory_bytes.unwrap_or(0),
            gpus,
        }
    }

    fn start<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        pipeline: &Pipeline,
        index: usize,
        preimage: Option<Preimage>,
        identity: Digest,
        grant: Grant,
    ) where
        'r: 'scope,
    {
        let instance = &pipeline.instances[index];
        let resolved = download(instance).and_then(|params| self.run.world.resolved(&params));
        let task = StageTask {
            index,
            instance: instance.clone(),
            preimage: preimage.clone(),
            forced: self.run.forced.contains(index),
            inputs: self.inputs(pipeline, instance),
            lineage: lineage::is_wanted(instance.kind).then(|| lineage::lineage(pipeline, index, |at| self.made(at))),
            resolved,
            base: pipeline.base.clone(),
            offline: self.run.options.offline,
            run: self.run.id.to_owned(),
            reasons: self.reasons(instance, preimage.as_ref()),
            grant: grant.clone(),
            store: self.run.store,
            executor: self.run.executor,
            stop: self.run.stop.clone(),
        };
        let sender = self.sender.clone();
        scope.spawn(move || {
            // The dispatcher outlives its stages, so that what is sent is heard.
            let ended = task.carry_out(&mut |body| drop(sender.send(News::Event(body))));
            drop(sender.send(News::Ended(index, Box::new(ended))));
        });
        self.at_work.insert(index, AtWork { grant, identity, preimage, began: Instant::now() });
    }

    fn reasons(&self, instance: &Instance, preimage: Option<&Preimage>) -> Vec<plan::Reason> {
        let Some(preimage) = preimage else { return vec![plan::Reason::NeverRan] };
        if self.run.forced_is(instance) {
            return vec![plan::Reason::Forced];
        }
        match self.run.world.lookup(&preimage.key()) {
            Ok(Found::Incomplete(outputs)) => {
                outputs.into_iter().map(|output| plan::Reason::OutputMissing { output }).collect()
            }
            _ => plan::of_miss(preimage, &self.run.world.earlier(instance)),
        }
    }

    fn made(&self, at: usize) -> Option<Made<'_>> {
        self.done[at].as_ref().map(|done| Made { key: done.key, outputs: &done.outputs })
    }

    fn inputs(&self, pipeline: &Pipeline, instance: &Instance) -> IndexMap<String, Vec<StageInput>> {
        let input = |reference: &crate::spec::model::InputRef| {
            let maker = &pipeline.instances[reference.instance];
            let done = self.done[reference.instance].as_ref().expect("a stage starts when its inputs are made");
            let artifact: Artifact = done.entry.outputs[&reference.output].clone();
            let stage = if reference.output == maker.plain_output() {
                maker.id.clone()
            } else {
                maker.id.replacen(&maker.stage, &format!("{}.{}", maker.stage, reference.output), 1)
            };
            StageInput { artifact, stage, label: maker.label.clone(), axes: maker.axes.clone() }
        };
        instance
            .inputs
            .iter()
            .map(|(slot, references)| (slot.clone(), references.iter().map(input).collect()))
            .collect()
    }

    fn listen(&mut self, pipeline: &mut Pipeline) -> Result<(), Failure> {
        match self.news.recv_timeout(TICK) {
            Ok(News::Event(body)) => self.tell(body),
            Ok(News::Ended(index, ended)) => self.ended(pipeline, index, *ended)?,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        Ok(())
    }

    fn ended(&mut self, pipeline: &mut Pipeline, index: usize, ended: Ended) -> Result<(), Failure> {
        let work = self.at_work.remove(&index).expect("what ended was at work");
        self.pool.give_back(work.grant);
        let followers = self.followers.remove(&index).unwrap_or_default();
        match ended {
            Ended::Executed(finished) => {
                let published = self.publish(pipeline, index, work.preimage, *finished);
                if let Err(failure) = published {
                    self.fail(pipeline, index, None, failure, work.began.elapsed().as_secs_f64());
                }
            }
            Ended::Found(entry) => self.cached(pipeline, index, entry.key, entry),
            Ended::Failed(failure) => {
                let key = work.preimage.as_ref().map(Preimage::key);
                self.fail(pipeline, index, key, failure, work.began.elapsed().as_secs_f64());
            }
            Ended::Interrupted => {
                let key = work.preimage.as_ref().map(Preimage::key);
                self.settle(pipeline, index, key, StageOutcome::Interrupted, work.began.elapsed().as_secs_f64());
                self.over.remove(&index);
            }
        }
        self.ready.extend(followers); // they look the key up anew, and find it or do the work themselves
        Ok(())
    }

    fn publish(
        &mut self,
        pipeline: &mut Pipeline,
        index: usize,
        preimage: Option<Preimage>,
        finished: Finished,
    ) -> Result<(), Failure> {
        let Finished { success, outputs, seconds, lock, logs } = finished;
        if let (Some(params), Some(resolved)) = (download(&pipeline.instances[index]), success.resolved) {
            self.run.world.lock.borrow_mut().set(&params, resolved)?;
        }
        let preimage = match preimage {
            Some(preimage) => preimage,
            None => plan::preimage(pipeline, index, &|at| self.made(at), self.run.world)?
                .ok_or_else(|| Failure::internal("the source said nothing of what it resolved to"))?,
        };
        let key = preimage.key();
        let stage = pipeline.instances[index].id.clone();
        let mut entry =
            Entry::new(key, serde_json::to_value(&preimage).expect("ingredients serialise"), stage, outputs);
        entry.metrics = success.metrics;
        entry.measured = success.measured;
        entry.measured.insert("seconds".to_owned(), seconds.into());
        entry.provenance = provenance(success.provenance, self.run.id, &logs);
        self.run.store.publish(&entry)?;
        drop(lock);
        if pipeline.instances[index].kind == Kind::Train {
            self.drop_checkpoints(pipeline, index)?;
        }
        self.tally.executed += 1;
        self.finish(pipeline, index, key, Box::new(entry), StageOutcome::Executed, seconds);
        Ok(())
    }

    /// Forgets checkpoints that no arm which is yet to be trained shares.
    fn drop_checkpoints(&self, pipeline: &Pipeline, index: usize) -> Result<(), Failure> {
        let mut shared = HashSet::new();
        for (other, instance) in pipeline.instances.iter().enumerate() {
            let is_open = instance.kind == Kind::Train
                && other != index
                && self.run.selection.contains(other)
                && !self.over.contains(&other);
            if is_open && self.inputs_are_made(instance) {
                shared.extend(reuse::checkpoint_keys(self.run.store, instance, &self.artifacts(pipeline, instance))?);
            }
        }
        let instance = &pipeline.instances[index];
        let reuse = reuse::Reuse::new(self.run.store, instance, None, &self.artifacts(pipeline, instance))?;
        reuse.drop_checkpoints(&|key| shared.contains(key))
    }

    fn inputs_are_made(&self, instance: &Instance) -> bool {
        instance.inputs.values().flatten().all(|input| self.done[input.instance].is_some())
    }

    fn artifacts(&self, pipeline: &Pipeline, instance: &Instance) -> IndexMap<String, Vec<Artifact>> {
        let inputs = self.inputs(pipeline, instance).into_iter();
        inputs.map(|(slot, list)| (slot, list.into_iter().map(|input| input.artifact).collect())).collect()
    }

    fn cached(&mut self, pipeline: &mut Pipeline, index: usize, key: Digest, entry: Box<Entry>) {
        let seconds = entry.measured.get("seconds").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        self.tally.cached += 1;
        self.tally.saved_seconds += seconds;
        self.finish(pipeline, index, key, entry, StageOutcome::Cached, seconds);
    }

    fn finish(
        &mut self,
        pipeline: &mut Pipeline,
        index: usize,
        key: Digest,
        entry: Box<Entry>,
        outcome: StageOutcome,
        seconds: f64,
    ) {
        let outputs = facts::digests(&entry);
        self.done[index] = Some(Done { key, outputs, entry });
        self.settle(pipeline, index, Some(key), outcome, seconds);
        self.release_dependents(index);
    }

    fn fail(&mut self, pipeline: &mut Pipeline, index: usize, key: Option<Digest>, failure: Failure, seconds: f64) {
        let Failure { class, message, hint } = failure;
        self.tally.failed += 1;
        self.failures.push(class);
        self.settle(pipeline, index, key, StageOutcome::Failed { class, message, hint }, seconds);
        self.block(pipeline, index);
    }

    fn settle(&mut self, pipeline: &Pipeline, index: usize, key: Option<Digest>, outcome: StageOutcome, seconds: f64) {
        self.over.insert(index);
        let instance = &pipeline.instances[index];
        let outputs = self.done[index].as_ref().map_or_else(IndexMap::new, |done| done.outputs.clone());
        let (stage, kind) = (instance.id.clone(), instance.kind);
        self.tell(EventBody::StageFinished { stage, kind, key, outcome, seconds, outputs });
    }

    fn release_dependents(&mut self, index: usize) {
        for dependent in self.dependents[index].clone() {
            self.waits_for[dependent] -= 1;
            if self.waits_for[dependent] == 0 && !self.over.contains(&dependent) {
                self.ready.insert(dependent);
            }
        }
    }

    /// Blocks what depends on a failure; with `partial`, what only gathers it goes on without.
    fn block(&mut self, pipeline: &mut Pipeline, root: usize) {
        let by = pipeline.instances[root].id.clone();
        let mut open = vec![root];
        while let Some(lost) = open.pop() {
            for dependent in self.dependents[lost].clone() {
                if self.over.contains(&dependent) {
                    continue;
                }
                if self.run.options.partial && can_do_without(&pipeline.instances[dependent], lost) {
                    self.go_on_without(pipeline, dependent, lost, &by);
                    continue;
                }
                self.tally.blocked += 1;
                self.settle(pipeline, dependent, None, StageOutcome::Blocked { by: by.clone() }, 0.0);
                open.push(dependent);
            }
        }
    }

    fn go_on_without(&mut self, pipeline: &mut Pipeline, dependent: usize, lost: usize, by: &str) {
        let missing = pipeline.instances[lost].id.clone();
        let instance = &mut pipeline.instances[dependent];
        instance.inputs.values_mut().for_each(|inputs| inputs.retain(|input| input.instance != lost));
        let why = if missing == by { "failed".to_owned() } else { format!("needs {by}, which failed") };
        let message = format!("{} goes on without {missing}, which {why}", instance.id);
        self.tell(EventBody::RunWarning { code: "partial".to_owned(), message });
        self.waits_for[dependent] -= 1;
        if self.waits_for[dependent] == 0 {
            self.ready.insert(dependent);
        }
    }
}

/// Whether every reference of an instance to another gathers, and something is left to gather.
fn can_do_without(instance: &Instance, lost: usize) -> bool {
    let mut references = instance.inputs.values().flatten().filter(|input| input.instance == lost);
    let others_remain = instance.inputs.values().any(|inputs| inputs.iter().any(|input| input.instance != lost));
    references.all(|input| input.gathered) && others_remain
}

fn download(instance: &Instance) -> Option<DownloadParams> {
    (instance.kind == Kind::Download).then(|| serde_json::from_value(instance.params.clone()).ok()).flatten()
}

fn provenance(mut provenance: Metrics, run: &str, logs: &str) -> Metrics {
    provenance.insert("run".to_owned(), run.into());
    provenance.insert("logs".to_owned(), logs.into());
    provenance
}
