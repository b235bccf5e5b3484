//! The engine over a real store, with an executor that stands in for the workers.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

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

fn gathering(mut instance: Instance) -> Instance {
    instance.inputs.values_mut().flatten().for_each(|input| input.gathered = true);
    instance
}

#[test]
fn a_second_run_executes_nothing_and_says_how_much_time_that_saved() {
    let project = Project::new();
    let pipeline = project.pipeline(vec![command("a", 1, &[]), command("b", 2, &[0]), command("c", 3, &[0, 1])]);
    let executor = Fake::new(echo);
    let first = run(&project.store(), &pipeline, &executor);
    assert_eq!(first.counts(), (3, 0, 0, 0));
    assert_eq!(first.reasons("a"), [Reason::NeverRan]);
    let second = run(&project.store(), &pipeline, &executor);
    assert_eq!(second.counts(), (0, 3, 0, 0));
    assert_eq!(second.output("c"), first.output("c"));
    assert!(matches!(second.summary.outcome, RunOutcome::Succeeded));
    let cached_seconds = second.events.iter().find_map(|event| match event {
        EventBody::StageFinished { stage, seconds, .. } if stage == "a" => Some(*seconds),
        _ => None,
    });
    assert!(cached_seconds.unwrap() > 0.0);
}

#[test]
fn an_edit_runs_what_it_touches_and_says_why() {
    let project = Project::new();
    let with = |x| project.pipeline(vec![command("a", x, &[]), command("b", 2, &[0]), command("other", 7, &[])]);
    let executor = Fake::new(echo);
    run(&project.store(), &with(1), &executor);
    let edited = run(&project.store(), &with(5), &executor);
    assert_eq!(edited.states(["a", "b", "other"]), ["executed", "executed", "cached"]);
    let changed = Reason::ParamChanged { path: "params.x".to_owned(), old: json!(1), new: json!(5) };
    assert_eq!(edited.reasons("a"), [changed]);
    assert!(matches!(&edited.reasons("b")[..], [Reason::InputChanged { .. }]));
    assert_eq!(run(&project.store(), &with(1), &executor).counts(), (0, 3, 0, 0), "going back is all hits");
}

#[test]
fn equal_bytes_leave_everything_below_cached() {
    let project = Project::new();
    let with = |x| project.pipeline(vec![command("a", x, &[]), command("b", 2, &[0])]);
    let executor = Fake::new(|hands: &mut Hands<'_>| {
        fs::write(hands.request.out.join("f"), "always the same").unwrap();
        success(&[("output", ArtifactType::Files)])
    });
    run(&project.store(), &with(1), &executor);
    assert_eq!(run(&project.store(), &with(2), &executor).states(["a", "b"]), ["executed", "cached"]);
}

#[test]
fn instances_with_one_key_are_one_piece_of_work() {
    let project = Project::new();
    let pipeline =
        project.pipeline(vec![command("a[v=1]", 1, &[]), command("a[v=2]", 1, &[]), command("b", 2, &[0, 1])]);
    let executor = Fake::new(|hands: &mut Hands<'_>| {
        std::thread::sleep(Duration::from_millis(30));
        echo(hands)
    });
    let ran = run(&project.store(), &pipeline, &executor);
    assert_eq!(ran.states(["a[v=1]", "a[v=2]", "b"]), ["executed", "cached", "executed"]);
    assert_eq!(executor.times("a[v=1]") + executor.times("a[v=2]"), 1);
}

#[test]
fn concurrent_runs_share_their_work() {
    let project = Project::new();
    let pipeline = project.pipeline((0..6).map(|i| command(&format!("s{i}"), i, &[])).collect());
    let executor = Fake::new(|hands: &mut Hands<'_>| {
        std::thread::sleep(Duration::from_millis(30));
        echo(hands)
    });
    let ran: Vec<Ran> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| run(&project.store(), &pipeline, &executor))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert!((0..6).all(|i| executor.times(&format!("s{i}")) == 1));
    assert_eq!(ran.iter().map(|ran| ran.counts().0).sum::<usize>(), 6);
    assert!(ran.iter().all(|ran| ran.counts().0 + ran.counts().1 == 6));
}

#[test]
fn a_gpu_is_never_given_to_two_runs_at_a_time() {
    let projects = [Project::new(), Project::new()];
    let locks = GpuLocks::new(projects[0].path("gpus"), None);
    let at_work = AtomicUsize::new(0);
    let executor = Fake::new(|hands: &mut Hands<'_>| {
        assert_eq!(at_work.fetch_add(1, Ordering::SeqCst), 0, "the one GPU is in use");
        std::thread::sleep(Duration::from_millis(20));
        at_work.fetch_sub(1, Ordering::SeqCst);
        echo(hands)
    });
    std::thread::scope(|scope| {
        for project in &projects {
            let (executor, locks) = (&executor, locks.clone());
            scope.spawn(move || {
                let resources = Resources { gpus: Gpus::Count(1), ..Resources::default() };
                let on_gpu = |i| Instance { resources: resources.clone(), ..command(&format!("s{i}"), i, &[]) };
                let (store, pipeline) = (project.store(), project.pipeline((0..4).map(on_gpu).collect()));
                let options = Options { gpu_locks: Some(locks), ..Options::default() };
                let scene = Scene { gpus: vec!["0".to_owned()], options, ..Scene::new(&store, &pipeline) };
                assert_eq!(scene.run(executor).counts(), (4, 0, 0, 0));
            });
        }
    });
}

#[test]
fn a_failure_blocks_what_needs_it_and_nothing_else() {
    let project = Project::new();
    let pipeline = project.pipeline(vec![
        command("bad", 1, &[]),
        command("below", 2, &[0]),
        command("further", 3, &[1]),
        command("good", 4, &[]),
    ]);
    let executor = Fake::new(|hands: &mut Hands<'_>| match hands.request.stage.as_str() {
        "bad" => failure(Failure::data("row 7 is not UTF-8")),
        _ => echo(hands),
    });
    let ran = run(&project.store(), &pipeline, &executor);
    assert_eq!(ran.states(["bad", "below", "further", "good"]), ["failed", "blocked", "blocked", "executed"]);
    assert_eq!(ran.counts(), (2, 0, 1, 2));
    assert_eq!(ran.summary.failures, [FailureClass::Data]);
    assert!(ran.events.iter().any(|event| matches!(event,
        EventBody::StageFinished { stage, outcome: StageOutcome::Blocked { by }, .. } if stage == "further" && by == "bad")));
    let mended = run(&project.store(), &pipeline, &Fake::new(echo));
    assert_eq!(mended.counts(), (3, 1, 0, 0));
}

#[test]
fn fail_fast_begins_nothing_more() {
    let project = Project::new();
    let pipeline = project.pipeline((0..20).map(|i| command(&format!("s{i}"), i, &[])).collect());
    let executor = Fake::new(|_: &mut Hands<'_>| failure(Failure::data("no")));
    let mut scene_options = Options { fail_fast: true, jobs: Some(1), ..Options::default() };
    let store = project.store();
    let scene = Scene { options: scene_options.clone(), ..Scene::new(&store, &pipeline) };
    assert_eq!(scene.run(&executor).counts(), (1, 0, 1, 0));
    scene_options.fail_fast = false;
    let scene = Scene { options: scene_options, ..Scene::new(&store, &pipeline) };
    assert_eq!(scene.run(&executor).counts(), (20, 0, 20, 0));
}

#[test]
fn partial_lets_a_gathering_stage_go_on_and_names_what_is_missing() {
    let project = Project::new();
    let pipeline = project.pipeline(vec![
        command("arm[v=1]", 1, &[]),
        command("arm[v=2]", 2, &[]),
        gathering(command("all", 3, &[0, 1])),
        command("needs", 4, &[0]),
    ]);
    let executor = Fake::new(|hands: &mut Hands<'_>| match hands.request.stage.as_str() {
        "arm[v=1]" => failure(Failure::data("no")),
        _ => echo(hands),
    });
    let store = project.store();
    let blocked = run(&store, &pipeline, &executor);
    assert_eq!(blocked.states(["arm[v=2]", "all", "needs"]), ["executed", "blocked", "blocked"]);
    let options = Options { partial: true, ..Options::default() };
    let ran = Scene { options, ..Scene::new(&store, &pipeline) }.run(&executor);
    assert_eq!(ran.states(["arm[v=2]", "all", "needs"]), ["cached", "executed", "blocked"]);
    assert!(ran.events.iter().any(|event| matches!(event,
        EventBody::RunWarning { code, message } if code == "partial" && message.contains("arm[v=1]"))));
    let whole = run(&store, &pipeline, &Fake::new(echo));
    assert_eq!(whole.state("all"), "executed", "the whole has another key than the part");
}

#[test]
fn a_lost_blob_is_made_again_with_that_reason() {
    let project = Project::new();
    let pipeline = project.pipeline(vec![command("a", 1, &[]), command("b", 2, &[0])]);
    let executor = Fake::new(echo);
    let first = run(&project.store(), &pipeline, &executor);
    for item in walkdir::WalkDir::new(project.path("cache/blobs")).into_iter().flatten() {
        if item.file_type().is_file() && fs::read_to_string(item.path()).unwrap() == "1()" {
            fs::remove_file(item.path()).unwrap();
        }
    }
    let second = run(&project.store(), &pipeline, &executor);
    assert_eq!(second.states(["a", "b"]), ["executed", "cached"]);
    assert_eq!(second.reasons("a"), [Reason::OutputMissing { output: "output".to_owned() }]);
    assert_eq!(second.output("a"), first.output("a"));
}

#[test]
fn results_of_an_older_implementation_are_taken_as_they_are_where_that_is_asked() {
    let project = Project::new();
    let pipeline = project.pipeline(vec![command("a", 1, &[]), command("b", 2, &[0]), command("c", 3, &[1])]);
    let (store, executor) = (project.store(), Fake::new(echo));
    run(&store, &pipeline, &executor);
    let (all, none) = (Selection::all(&pipeline), Selection::none(&pipeline));
    let upgraded = || World::new(&store, &pipeline).unwrap().with_version(Kind::Command, 3);
    let plan = Plan::new(&pipeline, &all, &none, &upgraded());
    assert_eq!(plan.outdated(&pipeline), [Outdated { kind: Kind::Command, old: 1, new: 3, results: 1 }]);
    assert_eq!((plan.counts().run, plan.counts().pending), (1, 2));
    let unlike = upgraded().accepting(vec![(Kind::Train, 1), (Kind::Command, 2)]);
    assert_eq!(Plan::new(&pipeline, &all, &none, &unlike).counts().cached, 0);

    let accepting = || upgraded().accepting(vec![(Kind::Command, 1)]);
    assert_eq!(Plan::new(&pipeline, &all, &none, &accepting()).counts().cached, 3);
    let ran = Scene { world: Some(accepting()), ..Scene::new(&store, &pipeline) }.run(&executor);
    assert_eq!(ran.counts(), (0, 3, 0, 0));
    let plan = Plan::new(&pipeline, &all, &none, &upgraded());
    assert_eq!((plan.counts().cached, plan.outdated(&pipeline).len()), (3, 0), "once accepted, it is so");
    let entry = store.entry(&plan.nodes[2].as_ref().unwrap().key.unwrap()).unwrap().unwrap();
    assert_eq!((entry.preimage["version"].as_u64(), implementation(&entry)), (Some(3), Some(1)));
    let forced = Plan::new(&pipeline, &all, &all, &accepting());
    assert_eq!(forced.counts().cached, 0, "what is forced is not taken over");
}

#[test]
fn force_executes_although_the_result_is_there() {
    let project = Project::new();
    let pipeline = project.pipeline(vec![command("a", 1, &[]), command("b", 2, &[0])]);
    let executor = Fake::new(echo);
    let store = project.store();
    run(&store, &pipeline, &executor);
    let forced = Scene { forced: Some("a"), ..Scene::new(&store, &pipeline) }.run(&executor);
    assert_eq!(forced.states(["a", "b"]), ["executed", "cached"]);
    assert_eq!(forced.reasons("a"), [Reason::Forced]);
}

#[test]
fn what_a_retry_can_mend_is_tried_again() {
    let project = Project::new();
    let with_retry = |id: &str, x| Instance {
        retry: Retry { attempts: 3, backoff: Duration::from_millis(1) },
        ..command(id, x, &[])
    };
    let pipeline = project.pipeline(vec![with_retry("flaky", 1), with_retry("hopeless", 2), command("once", 3, &[])]);
    let tries = AtomicUsize::new(0);
    let executor = Fake::new(|hands: &mut Hands<'_>| match hands.request.stage.as_str() {
        "flaky" if tries.fetch_add(1, Ordering::Relaxed) < 2 => {
            Outcome::Died { status: "signal: 9 (SIGKILL)".to_owned(), killed: true }
        }
        "hopeless" => failure(Failure::usage("the window is longer than the model's")),
        "once" => failure(Failure::environment("the network is down")),
        _ => echo(hands),
    });
    let ran = run(&project.store(), &pipeline, &executor);
    assert_eq!(ran.states(["flaky", "hopeless", "once"]), ["executed", "failed", "failed"]);
    assert_eq!(["flaky", "hopeless", "once"].map(|stage| executor.times(stage)), [3, 1, 1]);
    let retrying = ran.events.iter().filter(|event| matches!(event, EventBody::StageRetrying { .. })).count();
    assert_eq!(retrying, 2);
}

/// Fails so that a retry can mend it.
fn network_is_down() -> Outcome {
    failure(Failure::environment("the network is down"))
}

#[test]
fn who_waits_for_its_next_attempt_leaves_its_room_to_others() {
    let project = Project::new();
    let retry = Retry { attempts: 2, backoff: Duration::from_millis(300) };
    let pipeline = project.pipeline(vec![Instance { retry, ..command("flaky", 1, &[]) }, command("other", 2, &[])]);
    let order = Mutex::new(Vec::new());
    let executor = Fake::new(|hands: &mut Hands<'_>| {
        let mut order = order.lock().unwrap();
        order.push(hands.request.stage.clone());
        if order.len() == 1 { network_is_down() } else { echo(hands) }
    });
    let store = project.store();
    let scene = Scene { options: Options { jobs: Some(1), ..Options::default() }, ..Scene::new(&store, &pipeline) };
    assert_eq!(scene.run(&executor).counts(), (2, 0, 0, 0));
    assert_eq!(*order.lock().unwrap(), ["flaky", "other", "flaky"]);
}

#[test]
fn a_wait_for_the_next_attempt_ends_with_the_run() {
    let project = Project::new();
    let retry = Retry { attempts: 2, backoff: Duration::from_secs(3600) };
    let pipeline = project.pipeline(vec![Instance { retry, ..command("flaky", 1, &[]) }, command("fails", 2, &[])]);
    let store = project.store();
    let options = Options { jobs: Some(1), fail_fast: true, ..Options::default() };
    let scene = Scene { options, ..Scene::new(&store, &pipeline) };
    let ran = scene.run(&Fake::new(|_: &mut Hands<'_>| network_is_down()));
    assert_eq!(ran.states(["flaky", "fails"]), ["interrupted", "failed"]);
    assert!(matches!(ran.summary.outcome, RunOutcome::Failed));
}

#[test]
fn what_could_not_be_started_was_not_executed() {
    let project = Project::new();
    let retry = Retry { attempts: 3, backoff: Duration::ZERO };
    let pipeline = project.pipeline(vec![Instance { retry, ..command("a", 1, &[]) }]);
    let executor =
        Fake::new(|_: &mut Hands<'_>| Outcome::NotStarted(Failure::environment("the worker is not installed")));
    let ran = run(&project.store(), &pipeline, &executor);
    assert_eq!((ran.counts(), executor.times("a")), ((0, 0, 1, 0), 1));
    assert_eq!(ran.failure("a"), "the worker is not installed");
}

#[test]
fn who_waits_for_the_same_work_tells_how_far_it_is_and_leaves_its_room_to_others() {
    let project = Project::new();
    let shared = project.pipeline(vec![command("shared", 1, &[])]);
    let second = project.pipeline(vec![command("shared", 1, &[]), command("own", 2, &[])]);
    let (has_begun, was_followed) = (AtomicBool::new(false), AtomicBool::new(false));
    let wait_for = |flag: &AtomicBool| {
        while !flag.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let first = Fake::new(|hands: &mut Hands<'_>| {
        let line = r#"{"seq":0,"time_ms":0,"event":"progress","done":3,"total":10,"unit":"steps"}"#;
        fs::write(hands.request.attempt.join("events.jsonl"), format!("{line}\n")).unwrap();
        has_begun.store(true, Ordering::SeqCst);
        wait_for(&was_followed);
        echo(hands)
    });
    let others = Fake::new(echo);
    let ran = std::thread::scope(|scope| {
        scope.spawn(|| run(&project.store(), &shared, &first));
        wait_for(&has_begun);
        let store = project.store();
        let scene = Scene { options: Options { jobs: Some(1), ..Options::default() }, ..Scene::new(&store, &second) };
        let (mut followed, mut own_is_done) = (false, false);
        scene.run_watched(&others, |event| {
            followed |= matches!(event, EventBody::StageProgress { stage, done: 3, total: Some(10), message: Some(message), .. }
                if stage == "shared" && message.starts_with("in run run-"));
            own_is_done |= matches!(event, EventBody::StageFinished { stage, .. } if stage == "own");
            was_followed.store(followed && own_is_done, Ordering::SeqCst);
        })
    });
    assert_eq!(ran.states(["shared", "own"]), ["cached", "executed"]);
    assert!(ran.events.iter().any(|event| matches!(event, EventBody::StageWaiting { .. })));
    assert_eq!(others.times("shared"), 0);
}

#[test]
fn a_wish_to_stop_ends_the_run_and_the_same_command_goes_on() {
    let project = Project::new();
    let pipeline = project.pipeline(vec![command("a", 1, &[]), command("b", 2, &[0]), command("c", 3, &[1])]);
    let store = project.store();
    let scene = Scene::new(&store, &pipeline);
    let executor = Fake::new(|hands: &mut Hands<'_>| match hands.request.stage.as_str() {
        "b" => {
            hands.stop.request(Level::Finish);
            Outcome::Finished(StageResult::Interrupted)
        }
        _ => echo(hands),
    });
    let ran = scene.run(&executor);
    assert!(matches!(ran.summary.outcome, RunOutcome::Interrupted));
    assert_eq!(ran.states(["a", "b", "c"]), ["executed", "interrupted", "untouched"]);
    assert_eq!(ran.all_counts(), Counts { executed: 1, interrupted: 1, ..Counts::default() });
    assert_eq!(run(&store, &pipeline, &Fake::new(echo)).counts(), (2, 1, 0, 0));
}

#[test]
fn a_panic_on_a_stages_thread_is_a_failure_of_that_stage() {
    let project = Project::new();
    let pipeline = project.pipeline(vec![command("a", 1, &[]), command("b", 2, &[])]);
    let executor = Fake::new(|hands: &mut Hands<'_>| match hands.request.stage.as_str() {
        "a" => panic!("out of cheese"),
        _ => echo(hands),
    });
    let ran = run(&project.store(), &pipeline, &executor);
    assert_eq!(ran.states(["a", "b"]), ["failed", "executed"]);
    assert!(ran.failure("a").contains("out of cheese"));
    assert_eq!(ran.summary.failures, [FailureClass::Internal]);
}

fn download(from: &str) -> Instance {
    instance("data", Kind::Download, json!({"from": from, "as": "files"}), &[])
}

#[test]
fn a_local_source_is_looked_at_every_time() {
    let project = Project::new();
    let pipeline = project.pipeline(vec![download("file:in.txt"), command("b", 1, &[0])]);
    let copy = Fake::new(|hands: &mut Hands<'_>| match hands.request.kind {
        Kind::Download => {
            hands.write("output", "f", &fs::read_to_string(hands.request.base.join("in.txt")).unwrap());
            success(&[("output", ArtifactType::Files)])
        }
        _ => echo(hands),
    });
    fs::write(project.path("in.txt"), "one").unwrap();
    assert_eq!(run(&project.store(), &pipeline, &copy).counts(), (2, 0, 0, 0));
    fs::write(project.path("in.txt"), "one").unwrap();
    assert_eq!(run(&project.store(), &pipeline, &copy).counts(), (0, 2, 0, 0), "the same bytes are the same");
    fs::write(project.path("in.txt"), "two").unwrap();
    assert_eq!(run(&project.store(), &pipeline, &copy).counts(), (2, 0, 0, 0));
    fs::remove_file(project.path("in.txt")).unwrap();
    let absent = run(&project.store(), &pipeline, &copy);
    assert_eq!(absent.summary.failures, [FailureClass::Environment]);
}

#[test]
fn a_source_that_is_edited_while_it_is_read_is_not_published() {
    let project = Project::new();
    let pipeline = project.pipeline(vec![download("file:in.txt")]);
    fs::write(project.path("in.txt"), "one").unwrap();
    let edit = AtomicBool::new(true);
    let executor = Fake::new(|hands: &mut Hands<'_>| {
        let text = fs::read_to_string(hands.request.base.join("in.txt")).unwrap();
        hands.write("output", "f", &text);
        if edit.load(Ordering::Relaxed) {
            fs::write(hands.request.base.join("in.txt"), "edited").unwrap();
        }
        success(&[("output", ArtifactType::Files)])
    });
    let ran = run(&project.store(), &pipeline, &executor);
    assert_eq!(ran.state("data"), "failed");
    assert!(ran.failure("data").contains("in.txt was changed while"));
    edit.store(false, Ordering::Relaxed);
    assert_eq!(run(&project.store(), &pipeline, &executor).state("data"), "executed");
}

#[test]
fn what_a_movable_source_resolved_to_is_locked_and_used() {
    let project = Project::new();
    let other = Instance {
        id: "rows".to_owned(),
        stage: "rows".to_owned(),
        ..instance("rows", Kind::Download, json!({"from": "pypi:x==1", "as": "files", "limit": 3}), &[])
    };
    let pipeline = project.pipeline(vec![download("pypi:x==1"), other]);
    let resolving = AtomicUsize::new(0);
    let executor = Fake::new(|hands: &mut Hands<'_>| {
        if hands.request.resolved.is_none() {
            resolving.fetch_add(1, Ordering::Relaxed);
        }
        hands.write("output", "f", "wheel");
        let outcome = success(&[("output", ArtifactType::Files)]);
        let Outcome::Finished(StageResult::Succeeded(mut success)) = outcome else { unreachable!() };
        success.resolved = Some(json!({"sha256": "abc"}));
        Outcome::Finished(StageResult::Succeeded(success))
    });
    let first = run(&project.store(), &pipeline, &executor);
    assert_eq!(first.counts(), (2, 0, 0, 0));
    assert_eq!(resolving.load(Ordering::Relaxed), 1, "one source is resolved once");
    assert!(fs::read_to_string(project.path("p.lock")).unwrap().contains("abc"));
    assert_eq!(run(&project.store(), &pipeline, &executor).counts(), (0, 2, 0, 0));
}

#[test]
fn a_worker_that_leaves_the_wrong_thing_fails() {
    let project = Project::new();
    let pipeline = project.pipeline(vec![
        instance("link", Kind::Command, json!({"run": "x", "params": {"x": 1}}), &[]),
        instance("nothing", Kind::Command, json!({"run": "x", "params": {"x": 2}}), &[]),
    ]);
    let executor = Fake::new(|hands: &mut Hands<'_>| {
        if hands.request.stage == "link" {
            std::os::unix::fs::symlink("/etc/passwd", hands.request.out.join("f")).unwrap();
            return success(&[("output", ArtifactType::Files)]);
        }
        success(&[])
    });
    let ran = run(&project.store(), &pipeline, &executor);
    assert!(ran.failure("link").contains("symbolic link"));
    assert!(ran.failure("nothing").contains("no output"));
}

// Rows and training states: what outlives an attempt.

fn prompts(hands: &Hands<'_>) -> Outcome {
    hands.write("output", "prompts.jsonl", "{\"instruction\":\"hello\"}\n");
    success(&[("output", ArtifactType::Prompts)])
}

#[test]
fn rows_that_were_saved_are_known_to_the_next_attempt_however_the_first_ended() {
    let project = Project::new();
    fs::write(project.path("in.txt"), "x").unwrap();
    let mut generate =
        instance("answers", Kind::Generate, json!({}), &[("model", 0, "output"), ("prompts", 0, "output")]);
    generate.outputs = IndexMap::from([("answers".to_owned(), Some(ArtifactType::Answers))]);
    let pipeline = project.pipeline(vec![download("file:in.txt"), generate]);
    let known = Mutex::new(Vec::new());
    let dies = AtomicBool::new(true);
    let executor = Fake::new(|hands: &mut Hands<'_>| {
        if hands.request.kind == Kind::Download {
            return prompts(hands);
        }
        let rows = hands.request.known.as_ref().map(|known| fs::read_to_string(known.join("rows.jsonl")).unwrap());
        known.lock().unwrap().push(rows);
        let rows = hands.request.attempt.join("rows.jsonl");
        fs::write(&rows, "{\"row\":1}\n{\"row\":2}\n{\"cut").unwrap();
        hands.say(WorkerBody::Saved { what: Saved::Rows { bytes: 20 } });
        if dies.swap(false, Ordering::Relaxed) {
            return Outcome::Died { status: "signal: 9 (SIGKILL)".to_owned(), killed: true };
        }
        hands.write("answers", "answers.json", "[]");
        success(&[("answers", ArtifactType::Answers)])
    });
    let store = project.store();
    let died = run(&store, &pipeline, &executor);
    assert_eq!(died.summary.failures, [FailureClass::Environment]);
    assert_eq!(run(&store, &pipeline, &executor).state("answers"), "executed");
    assert_eq!(*known.lock().unwrap(), [None, Some("{\"row\":1}\n{\"row\":2}\n".to_owned())]);
}

fn training(project: &Project, params: Value) -> Pipeline {
    fs::write(project.path("in.txt"), "x").unwrap();
    let mut model = download("file:in.txt");
    model.id = "model".to_owned();
    let mut train = instance("train", Kind::Train, params, &[("model", 0, "output"), ("tokens", 0, "output")]);
    train.outputs = IndexMap::from([("adapter".to_owned(), Some(ArtifactType::Adapter))]);
    project.pipeline(vec![model, train])
}

fn tokens(hands: &Hands<'_>) -> Outcome {
    let split =
        json!({"rows": 8, "groups": 8, "tokens": 80, "trained_tokens": 40, "truncated_rows": 0, "longest_tokens": 10});
    let info = json!({"template": "alpaca", "date_string": "26 Jul 2024", "max_length_tokens": 64, "eos_token_id": 0,
        "train": split, "heldout": split, "dropped": {}});
    hands.write("output", "tokens.json", &info.to_string());
    success(&[("output", ArtifactType::Files)])
}

fn checkpoint(hands: &mut Hands<'_>, step: u64) {
    let folder = hands.request.attempt.join("checkpoints").join(step.to_string());
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("state"), format!("after {step}")).unwrap();
    hands.say(WorkerBody::Saved { what: Saved::Checkpoint { step } });
}

/// The deepest step that a worker was given, with what it holds.
fn known_state(hands: &Hands<'_>) -> Option<(u64, String)> {
    let folder = hands.request.known.as_ref()?.join("checkpoints");
    let step = fs::read_dir(&folder).ok()?.flatten().next()?.file_name().into_string().unwrap();
    let text = fs::read_to_string(folder.join(&step).join("state")).unwrap();
    Some((step.parse().unwrap(), text))
}

fn adapter(hands: &Hands<'_>) -> Outcome {
    hands.write("adapter", "adapter_model.safetensors", "weights");
    success(&[("adapter", ArtifactType::Adapter)])
}

#[test]
fn training_goes_on_from_the_deepest_state_that_an_arm_shares() {
    let project = Project::new();
    let known = Mutex::new(Vec::new());
    let stops_at = Mutex::new(Some(7));
    let executor = Fake::new(|hands: &mut Hands<'_>| {
        if hands.request.kind == Kind::Download {
            return tokens(hands);
        }
        known.lock().unwrap().push(known_state(hands));
        let stops_at = stops_at.lock().unwrap().take();
        for step in hands.request.checkpoints.clone() {
            if stops_at.is_some_and(|stop| step > stop) {
                break;
            }
            checkpoint(hands, step);
        }
        match stops_at {
            Some(step) => {
                checkpoint(hands, step);
                hands.stop.request(Level::Finish);
                Outcome::Finished(StageResult::Interrupted)
            }
            None => adapter(hands),
        }
    });
    let store = project.store();
    let params = json!({"steps": 10, "checkpoint_every": 5, "schedule": "constant", "batch": {"size": 2}});
    let interrupted = run(&store, &training(&project, params.clone()), &executor);
    assert_eq!(interrupted.state("train"), "interrupted");
    assert_eq!(run(&store, &training(&project, params), &executor).state("train"), "executed");
    let longer = json!({"steps": 15, "checkpoint_every": 5, "schedule": "constant", "batch": {"size": 2}});
    assert_eq!(run(&store, &training(&project, longer), &executor).state("train"), "executed");
    let state = |step: u64| Some((step, format!("after {step}")));
    assert_eq!(*known.lock().unwrap(), [None, state(7), state(10)]);
    let kept = walkdir::WalkDir::new(project.path("cache/states")).into_iter().flatten();
    assert_eq!(kept.filter(|item| item.file_name() == "state").count(), 1, "only what can be gone on from stays");
}

#[test]
fn a_damaged_state_is_none() {
    let project = Project::new();
    let known = Mutex::new(Vec::new());
    let dies = AtomicBool::new(true);
    let executor = Fake::new(|hands: &mut Hands<'_>| {
        if hands.request.kind == Kind::Download {
            return tokens(hands);
        }
        known.lock().unwrap().push(known_state(hands));
        checkpoint(hands, 5);
        match dies.swap(false, Ordering::Relaxed) {
            true => failure(Failure::environment("the disk is full")),
            false => adapter(hands),
        }
    });
    let pipeline = training(&project, json!({"steps": 10, "checkpoint_every": 5}));
    run(&project.store(), &pipeline, &executor);
    for item in walkdir::WalkDir::new(project.path("cache/states")).into_iter().flatten() {
        if item.file_name() == "state" {
            fs::remove_file(item.path()).unwrap();
            fs::write(item.path(), "after 6").unwrap();
        }
    }
    assert_eq!(run(&project.store(), &pipeline, &executor).state("train"), "executed");
    assert_eq!(*known.lock().unwrap(), [None, None]);
}

#[test]
fn what_a_killed_run_had_saved_is_salvaged_and_its_attempts_are_cleared_away() {
    let project = Project::new();
    let store = project.store();
    let pipeline = training(&project, json!({"steps": 10, "checkpoint_every": 5}));
    let leave_behind = |attempts: &Path| {
        let attempt = fs::read_dir(attempts)
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.join("salvage.json").exists());
        let (attempt, dead) = (attempt.unwrap(), store.attempts_dir().join("dead-run/00001-train"));
        fs::create_dir_all(dead.join("checkpoints/5")).unwrap();
        fs::copy(attempt.join("salvage.json"), dead.join("salvage.json")).unwrap();
        fs::write(dead.join("checkpoints/5/state"), "after 5").unwrap();
        fs::write(
            dead.join("events.jsonl"),
            "{\"seq\":0,\"time_ms\":0,\"event\":\"saved\",\"what\":{\"checkpoint\":{\"step\":5}}}\n",
        )
        .unwrap();
    };
    let known = Mutex::new(Vec::new());
    let executor = Fake::new(|hands: &mut Hands<'_>| {
        if hands.request.kind == Kind::Download {
            return tokens(hands);
        }
        known.lock().unwrap().push(known_state(hands));
        if known.lock().unwrap().len() == 1 {
            leave_behind(hands.request.attempt.parent().unwrap());
            return failure(Failure::environment("killed"));
        }
        adapter(hands)
    });
    run(&store, &pipeline, &executor);
    assert!(store.attempts_dir().join("dead-run").exists());
    run(&store, &pipeline, &executor);
    assert_eq!(*known.lock().unwrap(), [None, Some((5, "after 5".to_owned()))]);
    assert_eq!(fs::read_dir(store.attempts_dir()).unwrap().count(), 0);
}

#[test]
fn many_instances_of_few_keys_are_carried_out_once_a_key() {
    let project = Project::new();
    let mut instances = vec![command("root", 0, &[])];
    instances.extend((1..500).map(|i| command(&format!("s[i={i}]"), i % 20, &[0])));
    let pipeline = project.pipeline(instances);
    let executor = Fake::new(echo);
    assert_eq!(run(&project.store(), &pipeline, &executor).counts(), (21, 479, 0, 0));
    assert_eq!(run(&project.store(), &pipeline, &executor).counts(), (0, 500, 0, 0));
}

/// Not a test but a measurement: `cargo test --release --test engine -- --ignored --nocapture the_time_that`.
#[test]
#[ignore = "a measurement"]
fn the_time_that_ten_thousand_cached_instances_take() {
    let project = Project::new();
    let mut instances = vec![command("root", 0, &[])];
    instances.extend((1..10_000_usize).map(|i| command(&format!("s[i={i}]"), i as i64, &[(i - 1) / 10])));
    let pipeline = project.pipeline(instances);
    let executor = Fake::new(echo);
    let began = std::time::Instant::now();
    let first = run(&project.store(), &pipeline, &executor);
    println!("first run: {:?} {:?}", began.elapsed(), first.counts());
    for _ in 0..3 {
        let began = std::time::Instant::now();
        let store = project.store();
        let opened = began.elapsed();
        let again = run(&store, &pipeline, &executor);
        println!("no-op: {:?}, of it opening {opened:?} {:?}", began.elapsed(), again.counts());
    }
}
