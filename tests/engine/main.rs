//! The engine over a real store, with an executor that stands in for the workers.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod failures;
mod reuse;
mod saved;
mod sharing;
mod sources;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use indexmap::IndexMap;
use neftpipe::engine::event::{Counts, Event, EventBody, RunOutcome, StageOutcome};
use neftpipe::engine::{Options, Run, Summary, implementation};
use neftpipe::exec::{Executor, GpuLocks, Level, Machine, Outcome, Stop, Task};
use neftpipe::facts::World;
use neftpipe::plan::{Outdated, Plan, Reason, Selection};
use neftpipe::spec::model::{Gpus, InputRef, Instance, Pipeline, Resources, Retry, Settled};
use neftpipe::store::Store;
use neftpipe_protocol::event::{Event as WorkerEvent, EventBody as WorkerBody, Saved};
use neftpipe_protocol::params;
use neftpipe_protocol::request::{Request, StageResult, Success};
use neftpipe_protocol::{ArtifactType, Failure, FailureClass, Kind};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A project folder with a store, and pipelines made by hand.
struct Project {
    folder: TempDir,
}

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("p.yaml"), "version: 1\n").unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self) -> Store {
        Store::open(&self.path("cache")).unwrap()
    }

    fn pipeline(&self, mut instances: Vec<Instance>) -> Pipeline {
        instances.iter_mut().for_each(|instance| instance.base = self.folder.path().into());
        Pipeline {
            name: "p".to_owned(),
            description: None,
            file: self.path("p.yaml"),
            base: self.folder.path().to_owned(),
            instances,
            warnings: Default::default(),
        }
    }
}

/// One run, with what it said.
struct Ran {
    summary: Summary,
    events: Vec<EventBody>,
}

impl Ran {
    fn state(&self, stage: &str) -> &'static str {
        let mut ends = self.events.iter().filter_map(|event| match event {
            EventBody::StageFinished { stage: id, outcome, .. } if id == stage => Some(outcome),
            _ => None,
        });
        match ends.next_back() {
            Some(StageOutcome::Executed) => "executed",
            Some(StageOutcome::Cached) => "cached",
            Some(StageOutcome::Failed { .. }) => "failed",
            Some(StageOutcome::Blocked { .. }) => "blocked",
            Some(StageOutcome::Interrupted) => "interrupted",
            None => "untouched",
        }
    }

    fn states<const N: usize>(&self, stages: [&str; N]) -> [&'static str; N] {
        stages.map(|stage| self.state(stage))
    }

    fn output(&self, stage: &str) -> String {
        let digests = self.events.iter().find_map(|event| match event {
            EventBody::StageFinished { stage: id, outputs, .. } if id == stage => outputs.values().next(),
            _ => None,
        });
        digests.unwrap().to_string()
    }

    fn reasons(&self, stage: &str) -> Vec<Reason> {
        let reasons = self.events.iter().find_map(|event| match event {
            EventBody::StageStarted { stage: id, reasons, .. } if id == stage => Some(reasons.clone()),
            _ => None,
        });
        reasons.unwrap_or_default()
    }

    fn failure(&self, stage: &str) -> String {
        let mut failures = self.events.iter().filter_map(|event| match event {
            EventBody::StageFinished { stage: id, outcome: StageOutcome::Failed { message, .. }, .. }
                if id == stage =>
            {
                Some(message.clone())
            }
            _ => None,
        });
        failures.next_back().unwrap()
    }

    fn counts(&self) -> (usize, usize, usize, usize) {
        let Counts { executed, cached, failed, blocked, .. } = self.all_counts();
        (executed, cached, failed, blocked)
    }

    fn all_counts(&self) -> Counts {
        match self.events.last() {
            Some(EventBody::RunFinished { counts, .. }) => *counts,
            _ => panic!("a run ends with its end"),
        }
    }
}

struct Scene<'a> {
    store: &'a Store,
    pipeline: &'a Pipeline,
    forced: Option<&'a str>,
    options: Options,
    stop: Stop,
    id: String,
    gpus: Vec<String>,
    /// The world in which it runs, where that is not of now.
    world: Option<World<'a>>,
}

impl<'a> Scene<'a> {
    fn new(store: &'a Store, pipeline: &'a Pipeline) -> Self {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let id = format!("run-{:04}", RUNS.fetch_add(1, Ordering::Relaxed));
        Self {
            store,
            pipeline,
            forced: None,
            options: Options::default(),
            stop: Stop::default(),
            id,
            gpus: Vec::new(),
            world: None,
        }
    }

    fn run(&self, executor: &dyn Executor) -> Ran {
        self.run_watched(executor, |_| ())
    }

    fn run_watched(&self, executor: &dyn Executor, mut watch: impl FnMut(&EventBody)) -> Ran {
        let now = World::new(self.store, self.pipeline).unwrap();
        let world = self.world.as_ref().unwrap_or(&now);
        let forced: Vec<usize> = (0..self.pipeline.instances.len())
            .filter(|&index| self.forced == Some(self.pipeline.instances[index].id.as_str()))
            .collect();
        let run = Run {
            id: &self.id,
            pipeline: self.pipeline,
            selection: &Selection::all(self.pipeline),
            forced: &Selection::of(self.pipeline, &forced),
            store: self.store,
            world,
            executor,
            machine: Machine { cpus: 4, memory_bytes: 1 << 30, gpus: self.gpus.clone() },
            options: self.options.clone(),
            stop: self.stop.clone(),
        };
        let mut events = Vec::new();
        let summary = neftpipe::engine::run(&run, &mut |event: &Event| {
            watch(&event.body);
            events.push(event.body.clone());
        })
        .unwrap();
        Ran { summary, events }
    }
}

fn run(store: &Store, pipeline: &Pipeline, executor: &dyn Executor) -> Ran {
    Scene::new(store, pipeline).run(executor)
}

/// Does what its closure says, and counts how often each stage was carried out.
struct Fake<F> {
    act: F,
    carried_out: Mutex<BTreeMap<String, usize>>,
}

/// What the closure is given: the request, a way to say things, and the wish to stop.
struct Hands<'a> {
    request: &'a Request,
    observe: &'a mut dyn FnMut(WorkerEvent),
    stop: &'a Stop,
    said: u64,
}

impl Hands<'_> {
    fn write(&self, output: &str, file: &str, text: &str) {
        let folder = self.request.out.join(output);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), text).unwrap();
    }

    fn say(&mut self, body: WorkerBody) {
        (self.observe)(WorkerEvent { seq: self.said, time_ms: 0, body });
        self.said += 1;
    }

    /// The texts of all inputs, in order.
    fn inputs(&self) -> String {
        let files =
            self.request.inputs.values().flatten().map(|input| fs::read_to_string(input.path.join("f")).unwrap());
        files.collect::<Vec<_>>().join("+")
    }
}

impl<F: Fn(&mut Hands<'_>) -> Outcome + Sync> Fake<F> {
    fn new(act: F) -> Self {
        Self { act, carried_out: Mutex::default() }
    }

    fn times(&self, stage: &str) -> usize {
        self.carried_out.lock().unwrap().get(stage).copied().unwrap_or(0)
    }
}

impl<F: Fn(&mut Hands<'_>) -> Outcome + Sync> Executor for Fake<F> {
    fn execute(&self, task: &Task, observe: &mut dyn FnMut(WorkerEvent), stop: &Stop) -> Outcome {
        *self.carried_out.lock().unwrap().entry(task.request.stage.clone()).or_default() += 1;
        (self.act)(&mut Hands { request: &task.request, observe, stop, said: 0 })
    }

    fn torch_worker(&self) -> Option<PathBuf> {
        None
    }
}

fn success(outputs: &[(&str, ArtifactType)]) -> Outcome {
    let outputs = outputs.iter().map(|(name, what)| ((*name).to_owned(), *what)).collect();
    Outcome::Finished(StageResult::Succeeded(Box::new(Success { outputs, ..Success::default() })))
}

fn failure(failure: Failure) -> Outcome {
    Outcome::Finished(StageResult::Failed(failure))
}

/// A worker for `command`s by name: writes `f` with its parameter `x` and its inputs.
fn echo(hands: &mut Hands<'_>) -> Outcome {
    let x = hands.request.params["params"]["x"].to_string();
    hands.request.out.exists().then_some(()).unwrap();
    fs::write(hands.request.out.join("f"), format!("{x}({})", hands.inputs())).unwrap();
    success(&[("output", ArtifactType::Files)])
}

fn instance(id: &str, kind: Kind, params: Value, needs: &[(&str, usize, &str)]) -> Instance {
    let resolved = params::resolve(kind, params).unwrap();
    let mut inputs: IndexMap<String, Vec<InputRef>> = IndexMap::new();
    for (slot, instance, output) in needs {
        let input = InputRef { instance: *instance, output: (*output).to_owned(), gathered: false };
        inputs.entry((*slot).to_owned()).or_default().push(input);
    }
    let outputs = kind.outputs(false).iter().map(|(name, what)| ((*name).to_owned(), *what)).collect();
    Instance {
        id: id.to_owned(),
        stage: id.split('[').next().unwrap().to_owned(),
        label: None,
        kind,
        axes: IndexMap::new(),
        inputs,
        missing: Vec::new(),
        params: Settled::new(kind, resolved),
        outputs,
        base: std::path::Path::new("/").into(),
        resources: Resources::default(),
        timeout: None,
        retry: Retry { attempts: 1, backoff: Duration::from_millis(1) },
    }
}

/// A command whose output depends on `x` and its inputs.
fn command(id: &str, x: i64, needs: &[usize]) -> Instance {
    let needs: Vec<_> = needs.iter().map(|&index| ("from", index, "output")).collect();
    instance(id, Kind::Command, json!({"run": "stand-in", "params": {"x": x}}), &needs)
}

fn download(from: &str) -> Instance {
    instance("data", Kind::Download, json!({"from": from, "as": "files"}), &[])
}

fn gathering(mut instance: Instance) -> Instance {
    instance.inputs.values_mut().flatten().for_each(|input| input.gathered = true);
    instance
}
