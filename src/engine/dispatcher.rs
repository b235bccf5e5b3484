//! The sole owner of the state of a run: what is ready, what is at work, what is done.
//!
//! An instance goes from *waiting* (for inputs) to *ready*, is looked at once, and is then either settled (cached, failed)
//! or *queued* until the machine has room. Instances with one key are one piece of work: the first leads, the others follow.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::Scope;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use neftpipe_protocol::request::Missing;
use neftpipe_protocol::{Digest, Failure, FailureClass, Kind};

use super::ahead::Ends;
use super::calibration::{self, Calibrations};
use super::chain::{Chain, OpenArms};
use super::event::{Counts, Event, EventBody, RunOutcome, StageOutcome};
use super::look::{self, Look};
use super::memory::training_bytes;
use super::product::Products;
use super::reuse::Reuse;
use super::room::Room;
use super::stage::{Ended, StageInput, StageTask};
use super::{Run, Summary, accept, ahead, passing, wants};
use crate::exec::{Grant, Level, Pool, Want};
use crate::facts::outputs_lacking;
use crate::plan::lineage;
use crate::plan::{self, Facts, Preimage, Reason};
use crate::spec::model::{Instance, Pipeline};
use crate::store::{Lookup, Manifest};

/// How long the dispatcher waits for news before it looks whether it should stop.
const TICK: Duration = Duration::from_millis(50);
/// Queued instances that are passed over, because what they want is taken, before the queue is left alone.
const PASSED_OVER: usize = 32;
/// Instances that are looked at together, before it is asked again whether the run should stop.
const LOOKS_AT_ONCE: usize = 512;

/// Carries out a run and tells its events.
pub fn dispatch(run: &Run<'_>, emit: &mut dyn FnMut(&Event)) -> Summary {
    std::thread::scope(|scope| Dispatcher::new(run, emit).go(scope))
}

/// What a stage's thread says.
pub enum News {
    /// Something happened.
    Event(EventBody),
    /// It only waits, and has no need of this meanwhile.
    Left(Grant),
    /// It wants room again.
    Wants(usize, Sender<Grant>),
    /// It has ended, in this room if it had not left it.
    Ended(usize, Box<Ended>, Option<Grant>),
}

/// Work that waits for room.
struct Order {
    preimage: Option<Preimage>,
    reasons: Vec<Reason>,
    want: Want,
    /// The rows whose calibration it shares with other judges.
    calibration: Option<Digest>,
}

struct AtWork {
    want: Want,
    key: Option<Digest>,
    began: Instant,
}

struct Dispatcher<'r, 'e> {
    run: &'r Run<'r>,
    emit: &'e mut dyn FnMut(&Event),
    /// Changed only where `partial` takes inputs away.
    pipeline: Cow<'r, Pipeline>,
    pool: Pool,
    sender: Sender<News>,
    news: Receiver<News>,
    products: Products,
    /// Inputs that an instance still waits for.
    waits_for: Vec<usize>,
    dependents: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
    /// What was seen of some that are not taken up yet.
    seen: Ends,
    queue: BTreeMap<usize, Order>,
    at_work: BTreeMap<usize, AtWork>,
    /// Those of them that left their room and want it again.
    returning: BTreeMap<usize, Sender<Grant>>,
    /// Told to those at work once nothing new is begun any more.
    ending: Arc<AtomicBool>,
    /// Who does the work of an identity: a key, or a source that is yet to be resolved.
    leaders: HashMap<Digest, usize>,
    followers: HashMap<usize, Vec<usize>>,
    arms: OpenArms,
    calibrations: Calibrations,
    /// Keys that were made in this run: forcing asks for no more.
    fresh: HashSet<Digest>,
    settled: Vec<bool>,
    tally: Tally,
    failures: Vec<FailureClass>,
    /// Whether anything was taken up.
    works: bool,
    warned: bool,
    told_of_others: bool,
    told_of_stop: bool,
}

#[derive(Default)]
struct Tally {
    stages: usize,
    settled: usize,
    counts: Counts,
    saved_seconds: f64,
}

impl<'r, 'e> Dispatcher<'r, 'e> {
    fn new(run: &'r Run<'r>, emit: &'e mut dyn FnMut(&Event)) -> Self {
        let count = run.pipeline.instances.len();
        let (sender, news) = mpsc::channel();
        let jobs = run.options.jobs.unwrap_or(run.machine.cpus as usize).max(1);
        let mut dispatcher = Self {
            run,
            emit,
            pipeline: Cow::Borrowed(run.pipeline),
            pool: Pool::new(run.machine.clone(), jobs, run.options.gpu_locks.clone()),
            sender,
            news,
            products: Products::none(count),
            waits_for: vec![0; count],
            dependents: vec![Vec::new(); count],
            ready: BTreeSet::new(),
            seen: Ends::new(),
            queue: BTreeMap::new(),
            at_work: BTreeMap::new(),
            returning: BTreeMap::new(),
            ending: Arc::default(),
            leaders: HashMap::new(),
            followers: HashMap::new(),
            arms: OpenArms::default(),
            calibrations: Calibrations::default(),
            fresh: HashSet::new(),
            settled: vec![false; count],
            tally: Tally::default(),
            failures: Vec::new(),
            works: false,
            warned: false,
            told_of_others: false,
            told_of_stop: false,
        };
        run.selection.indexes().for_each(|index| dispatcher.enroll(index));
        dispatcher
    }

    fn enroll(&mut self, index: usize) {
        let inputs = self.pipeline.instances[index].inputs.values().flatten();
        let mut needs: Vec<usize> = inputs.map(|input| input.instance).collect();
        needs.sort_unstable();
        needs.dedup();
        self.tally.stages += 1;
        self.waits_for[index] = needs.len();
        if needs.is_empty() {
            self.ready.insert(index);
        }
        needs.into_iter().for_each(|need| self.dependents[need].push(index));
    }

    fn go<'scope>(mut self, scope: &'scope Scope<'scope, '_>) -> Summary
    where
        'r: 'scope,
    {
        let began = Instant::now();
        let (run, pipeline) = (self.run.id.to_owned(), self.pipeline.name.clone());
        self.tell(EventBody::RunStarted { run, pipeline, stages: self.tally.stages });
        let ready = self.ready.iter().copied();
        self.seen = ahead::look_ahead(self.run, &self.products, &self.waits_for, &self.dependents, ready);
        loop {
            while !self.ready.is_empty() && !self.is_ending() {
                self.look_at_ready();
            }
            if self.is_ending() {
                self.say_that_it_stops();
                self.ending.store(true, Ordering::Relaxed);
                self.returning.clear();
                self.ready.clear();
            }
            self.let_return();
            self.start_queued(scope);
            let may_start = !self.queue.is_empty() && !self.is_ending(); // once other runs give their GPUs back
            if self.at_work.is_empty() && self.ready.is_empty() && !may_start {
                break;
            }
            self.listen();
        }
        self.conclude(began)
    }

    fn conclude(mut self, began: Instant) -> Summary {
        let outcome = if self.is_stopping() && self.tally.settled < self.tally.stages {
            RunOutcome::Interrupted
        } else if self.failures.is_empty() {
            RunOutcome::Succeeded
        } else {
            RunOutcome::Failed
        };
        let Tally { counts, saved_seconds, .. } = self.tally;
        let (run, seconds) = (self.run.id.to_owned(), began.elapsed().as_secs_f64());
        self.tell(EventBody::RunFinished { run, outcome, counts, seconds, saved_seconds });
        Summary { outcome, failures: self.failures }
    }

    fn tell(&mut self, body: EventBody) {
        (self.emit)(&Event::now(body));
    }

    /// Who asked to stop hears that it was heard, where that takes a while.
    fn say_that_it_stops(&mut self) {
        if self.is_stopping() && !self.at_work.is_empty() && !std::mem::replace(&mut self.told_of_stop, true) {
            let message = "stopping: stages save their work; again ends them".to_owned();
            self.tell(EventBody::RunWarning { code: "stopping".to_owned(), message });
        }
    }

    fn is_stopping(&self) -> bool {
        self.run.stop.level() > Level::Run
    }

    /// Whether nothing new is begun any more.
    fn is_ending(&self) -> bool {
        self.is_stopping() || (self.run.options.fail_fast && !self.failures.is_empty())
    }

    /// Takes up the next instances whose inputs are made.
    fn look_at_ready(&mut self) {
        let next: Vec<usize> = self.ready.iter().copied().take(LOOKS_AT_ONCE).collect();
        let (found, next): (Vec<usize>, Vec<usize>) = next.into_iter().partition(|&index| self.products.has(index));
        found.into_iter().for_each(|index| self.was_found(index));
        let unseen: Vec<usize> = next.iter().copied().filter(|index| !self.seen.contains_key(index)).collect();
        let looks = look::look_at(self.run, &self.pipeline, &self.products, &unseen, !self.at_work.is_empty());
        self.seen.extend(unseen.into_iter().zip(looks));
        for index in next {
            if self.is_ending() {
                return;
            }
            self.ready.remove(&index);
            match self.seen.remove(&index).expect("it was looked at") {
                Ok(look) => self.take_up(index, look),
                Err(failure) => self.fail(index, None, &failure, 0.0),
            }
        }
    }

    /// Settles an instance whose result was found ahead.
    fn was_found(&mut self, index: usize) {
        self.ready.remove(&index);
        let manifest = self.products.manifest(index).expect("it is among the products");
        self.cached(index, manifest);
    }

    /// Settles an instance whose result is there; else queues it or lets it follow another.
    fn take_up(&mut self, index: usize, look: Look) {
        if let Some(&leader) = self.leaders.get(&look.identity) {
            self.followers.entry(leader).or_default().push(index);
            return;
        }
        let key = look.key();
        let Look { preimage, identity, found } = look;
        match found {
            Err(failure) => self.fail(index, key, &failure, 0.0),
            Ok(Lookup::Hit(manifest)) if !self.is_forced(index, manifest.key) => self.cached(index, manifest),
            Ok(found) => match self.taken_over(index, preimage.as_ref(), &found) {
                Err(failure) => self.fail(index, key, &failure, 0.0),
                Ok(Some(manifest)) => self.cached(index, manifest),
                Ok(None) => {
                    let reasons = self.reasons(index, preimage.as_ref(), &found);
                    self.enqueue(index, identity, preimage, reasons);
                }
            },
        }
    }

    /// The result of an older implementation that was accepted, where nothing newer is there.
    fn taken_over(
        &self,
        index: usize,
        new: Option<&Preimage>,
        found: &Lookup,
    ) -> Result<Option<Arc<Manifest>>, Failure> {
        match (new, found) {
            (Some(new), Lookup::Miss) if !self.run.forced.contains(index) => {
                accept::take_over(self.run.store, new, self.run.world)
            }
            _ => Ok(None),
        }
    }

    fn is_forced(&self, index: usize, key: Digest) -> bool {
        self.run.forced.contains(index) && !self.fresh.contains(&key)
    }

    fn reasons(&self, index: usize, preimage: Option<&Preimage>, found: &Lookup) -> Vec<Reason> {
        match (preimage, found) {
            _ if self.run.forced.contains(index) => vec![Reason::Forced],
            (_, Lookup::Incomplete { missing, .. }) => {
                outputs_lacking(missing).into_iter().map(|output| Reason::OutputMissing { output }).collect()
            }
            (Some(new), _) => plan::of_miss(new, &self.run.world.earlier(&self.pipeline.instances[index])),
            (None, _) if self.run.world.lock().is_refreshed() => vec![Reason::Forced],
            (None, _) => vec![Reason::NeverRan],
        }
    }

    fn enqueue(&mut self, index: usize, identity: Digest, preimage: Option<Preimage>, reasons: Vec<Reason>) {
        match self.prepare(index) {
            Ok(want) => {
                self.leaders.insert(identity, index);
                let calibration = calibration::scope(&self.pipeline.instances[index], preimage.as_ref());
                self.queue.insert(index, Order { preimage, reasons, want, calibration });
            }
            Err(failure) => self.fail(index, preimage.as_ref().map(Preimage::key), &failure, 0.0),
        }
    }

    /// What to say of training that will not fit into this machine's memory; what a GPU has is not known.
    fn memory_warning(&self, instance: &Instance, inputs: &IndexMap<String, Vec<StageInput>>) -> Option<String> {
        let input = |slot: &str| Some(&inputs.get(slot)?.first()?.artifact);
        let needed = training_bytes(self.run.store, &instance.typed_params().ok()?, input("model")?, input("tokens")?)?;
        let crate::exec::Machine { memory_bytes, gpus, .. } = &self.run.machine;
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        (gpus.is_empty() && needed > *memory_bytes).then(|| {
            let (id, needed, there) = (&instance.id, gib(needed), gib(*memory_bytes));
            format!(
                "{id} will take about {needed:.1} GiB of memory, and there are {there:.1}: lower `batch.micro`, or say \
                 `activation_checkpointing: true`"
            )
        })
    }

    /// Finds out what an instance wants, and which states it passes if it trains.
    fn prepare(&mut self, index: usize) -> Result<Want, Failure> {
        let instance = &self.pipeline.instances[index];
        let want = wants::want(instance, &self.run.machine, self.run.options.jobs);
        let (want, cut) = self.run.machine.fit(want)?;
        if instance.kind == Kind::Train {
            let inputs = self.products.inputs(&self.pipeline, instance);
            if let Some(chain) = Chain::of(self.run.store, instance, &inputs)? {
                self.arms.open(index, chain);
            }
            if let Some(message) = self.memory_warning(instance, &inputs) {
                self.tell(EventBody::RunWarning { code: "memory_short".to_owned(), message });
            }
        }
        if let Some(message) = cut.filter(|_| !std::mem::replace(&mut self.warned, true)) {
            self.tell(EventBody::RunWarning { code: "resources_capped".to_owned(), message });
        }
        Ok(want)
    }

    /// Starts what the machine has room for, in the order of the pipeline; what does not fit lets others pass.
    fn start_queued<'scope>(&mut self, scope: &'scope Scope<'scope, '_>)
    where
        'r: 'scope,
    {
        let mut passed_over = 0;
        let mut next = 0;
        while !self.is_ending() && self.pool.has_room() && passed_over < PASSED_OVER {
            let Some((&index, order)) = self.queue.range(next..).next() else { return };
            next = index + 1;
            if self.calibrations.must_wait(order.calibration) {
                continue;
            }
            match self.pool.take(&order.want, &self.run.machine) {
                Some(grant) => self.start(scope, index, grant),
                None => passed_over += 1,
            }
        }
        if self.pool.has_met_others() && !std::mem::replace(&mut self.told_of_others, true) {
            let message = "stages wait for GPUs that other runs have".to_owned();
            self.tell(EventBody::RunWarning { code: "gpus_busy".to_owned(), message });
        }
    }

    /// Gives room to those who began and left it, before anybody else.
    fn let_return(&mut self) {
        for index in self.returning.keys().copied().collect::<Vec<_>>() {
            let want = self.at_work[&index].want;
            let Some(grant) = self.pool.take(&want, &self.run.machine) else { continue };
            let granting = self.returning.remove(&index).expect("it was just there");
            if let Err(mpsc::SendError(grant)) = granting.send(grant) {
                self.pool.give_back(grant);
            }
        }
    }

    fn start<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, index: usize, grant: Grant)
    where
        'r: 'scope,
    {
        if !std::mem::replace(&mut self.works, true) {
            self.tell(EventBody::WorkBegins); // heard before any program runs, so that a run at work is a run on record
        }
        let Order { preimage, reasons, want, calibration } = self.queue.remove(&index).expect("what starts was queued");
        let key = preimage.as_ref().map(Preimage::key);
        self.at_work.insert(index, AtWork { want, key, began: Instant::now() });
        let instance = self.pipeline.instances[index].clone();
        self.calibrations.begin(index, calibration);
        let lineage = lineage::is_wanted(instance.kind)
            .then(|| lineage::lineage(&self.pipeline, index, |at| self.products.made_of_rows(at, self.run.store)));
        self.tell_what_arms_pass();
        self.arms.join_cuts(index, &self.passed_elsewhere());
        let reuse = Reuse::new(self.run, preimage.as_ref(), self.arms.chain(index), self.arms.shared(index));
        let inputs = self.products.inputs(&self.pipeline, &instance);
        let task = StageTask { run: self.run, index, instance, preimage, inputs, lineage, reasons };
        let (sender, ending) = (self.sender.clone(), Arc::clone(&self.ending));
        let mut room = Room::new(index, sender, grant, self.run.stop.clone(), ending);
        scope.spawn(move || {
            let ended = task.carry_out(reuse, &mut room);
            room.close(ended);
        });
    }

    /// Waits for news, and then takes all that there are.
    fn listen(&mut self) {
        let mut news = self.news.recv_timeout(TICK).ok();
        while let Some(item) = news {
            match item {
                News::Event(body) => self.tell(body),
                News::Left(grant) => self.pool.give_back(grant),
                News::Wants(index, granting) => drop(self.returning.insert(index, granting)),
                News::Ended(index, ended, grant) => {
                    grant.into_iter().for_each(|grant| self.pool.give_back(grant));
                    self.ended(index, *ended);
                }
            }
            news = self.news.try_recv().ok();
        }
    }

    fn ended(&mut self, index: usize, ended: Ended) {
        let AtWork { key, began, .. } = self.at_work.remove(&index).expect("what ended was at work");
        self.leaders.retain(|_, leader| *leader != index);
        self.calibrations.end(index);
        let seconds = began.elapsed().as_secs_f64();
        let followers = self.followers.remove(&index).unwrap_or_default();
        match ended {
            Ended::Executed(manifest) => {
                self.tally.counts.executed += 1;
                self.fresh.insert(manifest.key);
                self.finish(index, manifest, StageOutcome::Executed);
                self.drop_states(index);
            }
            Ended::Found(manifest) => {
                self.cached(index, manifest);
                self.drop_states(index);
            }
            Ended::Failed { failure, ran } => {
                self.tally.counts.executed += usize::from(ran);
                self.fail(index, key, &failure, seconds);
                if key.is_some() {
                    // One key, one failure: the others would do the same and fail the same.
                    followers.iter().for_each(|&follower| self.fail(follower, key, &failure, 0.0));
                    return;
                }
            }
            Ended::Interrupted => {
                self.tally.counts.interrupted += 1;
                self.told_end(index, key, StageOutcome::Interrupted, seconds);
            }
        }
        self.ready.extend(followers); // they look their key up anew, and find it or do the work themselves
    }

    /// Lets other runs know which states not to drop. Where that fails they may compute some of them again.
    fn tell_what_arms_pass(&mut self) {
        if self.arms.take_news()
            && let Err(failure) = passing::write(self.run.store, self.run.id, self.arms.passing())
        {
            tracing::warn!("{failure}");
        }
    }

    /// The states that arms of other runs pass, as far as that can be found out.
    fn passed_elsewhere(&self) -> HashSet<Digest> {
        if self.arms.is_empty() {
            return HashSet::new();
        }
        passing::of_others(self.run.store, self.run.id).unwrap_or_else(|failure| {
            tracing::warn!("{failure}");
            HashSet::new()
        })
    }

    /// Drops the states that no arm will go on from any more. One that stays costs space, not the run.
    fn drop_states(&mut self, index: usize) {
        let elsewhere = self.passed_elsewhere();
        for key in self.arms.close(index).iter().filter(|key| !elsewhere.contains(key)) {
            if let Err(error) = self.run.store.drop_state(key) {
                tracing::warn!("{error}");
            }
        }
        self.tell_what_arms_pass();
    }

    fn cached(&mut self, index: usize, manifest: Arc<Manifest>) {
        self.tally.counts.cached += 1;
        self.tally.saved_seconds += manifest.seconds;
        self.finish(index, manifest, StageOutcome::Cached);
    }

    fn finish(&mut self, index: usize, manifest: Arc<Manifest>, outcome: StageOutcome) {
        let (key, seconds) = (manifest.key, manifest.seconds);
        self.products.add(index, manifest);
        self.settle(index, Some(key), outcome, seconds);
        for dependent in std::mem::take(&mut self.dependents[index]) {
            self.one_input_less(dependent);
        }
    }

    fn one_input_less(&mut self, dependent: usize) {
        self.waits_for[dependent] -= 1;
        if self.waits_for[dependent] == 0 && !self.settled[dependent] {
            self.ready.insert(dependent);
        }
    }

    fn fail(&mut self, index: usize, key: Option<Digest>, failure: &Failure, seconds: f64) {
        let Failure { class, message, hint } = failure.clone();
        self.tally.counts.failed += 1;
        self.failures.push(class);
        self.settle(index, key, StageOutcome::Failed { class, message, hint }, seconds);
        self.block_dependents(index);
    }

    /// Blocks what depends on a failure; with `partial`, what only gathers it goes on without.
    fn block_dependents(&mut self, root: usize) {
        let by = self.pipeline.instances[root].id.clone();
        let mut lost = vec![root];
        while let Some(index) = lost.pop() {
            for dependent in std::mem::take(&mut self.dependents[index]) {
                if self.settled[dependent] {
                    continue;
                }
                if self.run.options.partial && can_do_without(&self.pipeline.instances[dependent], index) {
                    self.go_on_without(dependent, index, &by);
                    continue;
                }
                self.tally.counts.blocked += 1;
                self.settle(dependent, None, StageOutcome::Blocked { by: by.clone() }, 0.0);
                lost.push(dependent);
            }
        }
    }

    fn go_on_without(&mut self, dependent: usize, lost: usize, by: &str) {
        let missing = self.pipeline.instances[lost].id.clone();
        let instance = &mut self.pipeline.to_mut().instances[dependent];
        instance.inputs.values_mut().for_each(|inputs| inputs.retain(|input| input.instance != lost));
        let why = if missing == by { "failed".to_owned() } else { format!("needs {by}, which failed") };
        let message = format!("{} goes on without {missing}, which {why}", instance.id);
        instance.missing.push(Missing { stage: missing, why });
        self.tell(EventBody::RunWarning { code: "partial".to_owned(), message });
        self.one_input_less(dependent);
    }

    fn settle(&mut self, index: usize, key: Option<Digest>, outcome: StageOutcome, seconds: f64) {
        self.settled[index] = true;
        self.tally.settled += 1;
        self.told_end(index, key, outcome, seconds);
    }

    fn told_end(&mut self, index: usize, key: Option<Digest>, outcome: StageOutcome, seconds: f64) {
        let Instance { id: stage, kind, .. } = &self.pipeline.instances[index];
        let outputs = self.products.digests(index);
        self.tell(EventBody::StageFinished { stage: stage.clone(), kind: *kind, key, outcome, seconds, outputs });
    }
}

/// Whether every reference of an instance to another gathers, and something is left to gather.
fn can_do_without(instance: &Instance, lost: usize) -> bool {
    let mut references = instance.inputs.values().flatten().filter(|input| input.instance == lost);
    let others_remain = instance.inputs.values().any(|inputs| inputs.iter().any(|input| input.instance != lost));
    references.all(|input| input.gathered) && others_remain
}
