//! Failures, the next attempt, and the wish to stop.

use neftpipe_protocol::request::Missing;

use super::*;

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
fn a_report_is_told_what_it_goes_on_without() {
    let project = Project::new();
    let report = Instance {
        kind: Kind::Report,
        params: Settled::defaults(Kind::Report),
        ..gathering(command("report", 3, &[1, 2]))
    };
    let pipeline = project.pipeline(vec![
        command("arm[v=1]", 1, &[]),
        command("use[v=1]", 2, &[0]),
        command("arm[v=2]", 4, &[]),
        report,
    ]);
    let told = Mutex::new(Vec::new());
    let executor = Fake::new(|hands: &mut Hands<'_>| match hands.request.stage.as_str() {
        "arm[v=1]" => failure(Failure::data("no")),
        "report" => {
            told.lock().unwrap().extend(hands.request.lineage.iter().flat_map(|lineage| lineage.missing.clone()));
            failure(Failure::data("seen"))
        }
        _ => echo(hands),
    });
    let options = Options { partial: true, ..Options::default() };
    let store = project.store();
    Scene { options, ..Scene::new(&store, &pipeline) }.run(&executor);
    let why = "needs arm[v=1], which failed".to_owned();
    assert_eq!(*told.lock().unwrap(), [Missing { stage: "use[v=1]".to_owned(), why }]);
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
