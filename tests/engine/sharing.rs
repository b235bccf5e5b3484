//! Instances and runs that do the same work, or want the same GPU.

use super::*;

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
