//! What a stage saves on its way, rows and states of training, and who goes on from it.

use super::*;

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

/// Trains from the deepest state that it was given; says where that was.
fn train_on(hands: &mut Hands<'_>, from: &Mutex<Vec<Option<u64>>>) -> Outcome {
    let known = known_state(hands).map(|(step, _)| step);
    from.lock().unwrap().push(known);
    for step in hands.request.checkpoints.clone() {
        if known.is_none_or(|known| step > known) {
            checkpoint(hands, step);
        }
    }
    adapter(hands)
}

#[test]
fn arms_at_work_in_two_runs_compute_the_steps_that_they_share_once() {
    let project = Project::new();
    let arm = |schedule: Value| {
        json!({"steps": 10, "checkpoint_every": 5, "schedule": "constant", "batch": {"size": 2},
            "neft": {"alpha": 5, "schedule": schedule}})
    };
    let constant = training(&project, arm(json!("constant")));
    // Its noise is halved at a step where the other run would save nothing by itself, and after one where it does.
    let halved = training(&project, arm(json!({"step": {"at": [0.7], "factor": 0.5}})));
    let (has_begun, waits) = (AtomicBool::new(false), AtomicBool::new(false));
    let wait_for = |flag: &AtomicBool| {
        while !flag.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let (of_first, of_second) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let first = Fake::new(|hands: &mut Hands<'_>| {
        if hands.request.kind == Kind::Download {
            return tokens(hands);
        }
        has_begun.store(true, Ordering::SeqCst);
        wait_for(&waits);
        train_on(hands, &of_first)
    });
    let second = Fake::new(|hands: &mut Hands<'_>| match hands.request.kind {
        Kind::Download => tokens(hands),
        _ => train_on(hands, &of_second),
    });
    let ran = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(&project.store(), &constant, &first));
        wait_for(&has_begun);
        let store = project.store();
        let ran = Scene::new(&store, &halved).run_watched(&second, |event| {
            let waiting = matches!(event, EventBody::StageWaiting { stage, .. } if stage == "train");
            waits.fetch_or(waiting, Ordering::SeqCst);
        });
        assert_eq!(other.join().unwrap().state("train"), "executed");
        ran
    });
    assert_eq!(ran.state("train"), "executed");
    assert_eq!((of_first.into_inner().unwrap(), of_second.into_inner().unwrap()), (vec![None], vec![Some(5)]));
    let kept = walkdir::WalkDir::new(project.path("cache/states")).into_iter().flatten();
    assert_eq!(
        kept.filter(|item| item.file_name() == "state").count(),
        2,
        "each arm's last, from which it can be extended"
    );
}

#[test]
fn a_longer_run_under_wsd_goes_on_from_where_the_decay_began() {
    let project = Project::new();
    let from = Mutex::new(Vec::new());
    let executor = Fake::new(|hands: &mut Hands<'_>| match hands.request.kind {
        Kind::Download => tokens(hands),
        _ => train_on(hands, &from),
    });
    let arm = |steps: u64| {
        json!({"steps": steps, "checkpoint_every": 4, "schedule": {"wsd": {"decay": 0.3}}, "warmup": 2,
            "batch": {"size": 2}})
    };
    for steps in [10, 30] {
        assert_eq!(run(&project.store(), &training(&project, arm(steps)), &executor).state("train"), "executed");
    }
    assert_eq!(from.into_inner().unwrap(), [None, Some(8)]);
}
