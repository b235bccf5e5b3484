//! Sources: local ones that change, and movable ones that are locked.

use super::*;

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
