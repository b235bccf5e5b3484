//! What a run finds and makes no more, and what it makes again.

use super::*;

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
