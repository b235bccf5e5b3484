//! A rerun does what changed and nothing else.
#![allow(clippy::unwrap_used)]

mod common;

use common::Project;
use serde_json::json;

#[test]
fn a_second_run_executes_nothing() {
    let project = Project::tiny();
    assert_eq!(project.run().len(), 12);
    assert!(project.run().is_empty());
}

#[test]
fn what_cannot_change_a_result_executes_nothing() {
    let project = Project::tiny();
    project.run();
    project.edit("tiny.yaml", "version: 1", "# another comment\nversion: 1");
    project.edit(
        "tiny.yaml",
        "  train:\n    needs: { model: model, tokens: tokens }",
        "  finetune:\n    needs: { model: model, tokens: tokens }",
    );
    project.edit("tiny.yaml", "adapter: train", "adapter: finetune");
    project.edit("tiny.yaml", "train: \"train[*]\"", "train: \"finetune[*]\"");
    project.edit("tiny.yaml", "batch: { size: 4 }", "batch: { size: 4, micro: 2 }, device: cpu");
    project.edit("tiny.yaml", "checkpoint_every: 2", "checkpoint_every: 3");
    project.edit(
        "tiny.yaml",
        "metrics: [rouge_l, exact_match, length]",
        "metrics: [rouge_l, exact_match, length], concurrency: 2",
    );
    assert!(project.run().is_empty());
}

#[test]
fn a_changed_alpha_reruns_its_arm_and_the_report() {
    let project = Project::tiny();
    project.run();
    project.edit("tiny.yaml", "neft.alpha: 5", "neft.alpha: 7");
    let plan = project.plan();
    let (state, reasons) = &plan["train[variant=neft5]"];
    assert_eq!(state, "run");
    assert_eq!(reasons, &[json!({ "code": "param_changed", "path": "neft.alpha", "old": 5, "new": 7 })]);
    assert_eq!(plan["train[variant=plain]"].0, "cached");
    let mut executed = project.run();
    executed.sort();
    let arm = [
        "answers[variant=neft5]",
        "lengths[variant=neft5]",
        "report",
        "train[variant=neft5]",
        "verdict[variant=neft5]",
    ];
    assert!(executed.iter().all(|id| arm.contains(&id.as_str())), "{executed:?}");
    assert!(executed.contains(&"train[variant=neft5]".to_owned()) && executed.contains(&"report".to_owned()));
    project.edit("tiny.yaml", "neft.alpha: 7", "neft.alpha: 5");
    assert!(project.run().is_empty(), "going back is all hits");
}

#[test]
fn an_edited_script_reruns_its_command() {
    let project = Project::tiny();
    project.run();
    project.edit("count.sh", "grep -c output", "grep -c instruction");
    assert_eq!(project.plan()["lengths[variant=plain]"].1[0]["slot"], "count.sh");
    let executed = project.run();
    // Both arms' answers hold as many rows, so that one key is carried out where their answers are equal.
    assert!(!executed.is_empty() && executed.iter().all(|id| id.starts_with("lengths")), "{executed:?}");
}

#[test]
fn an_input_with_the_same_rows_executes_nothing_below_it() {
    let project = Project::tiny();
    project.run();
    let text = std::fs::read_to_string(project.file("arithmetic.json")).unwrap();
    project.write("arithmetic.json", &text);
    assert!(project.run().is_empty(), "the same bytes with another time");
    project.write("arithmetic.json", &text.replace("\n ", "\n   "));
    assert_eq!(project.run(), ["data"], "other bytes, the same rows");
}

#[test]
fn a_deleted_blob_reruns_its_stage() {
    let project = Project::tiny();
    project.run();
    let before = project.digests();
    let shown = project.neftpipe(&["show", "train[variant=neft5]", "--json"]).json();
    // The adapter's weights are its own; its configuration is the same file for both arms.
    let files = shown["artifact"]["files"].as_array().unwrap();
    let weights = files.iter().find(|file| file["path"] == "adapter_model.safetensors").unwrap();
    let digest = weights["digest"].as_str().unwrap().to_owned();
    std::fs::remove_file(project.file(&format!("cache/blobs/{}/{digest}", &digest[..2]))).unwrap();
    let (state, reasons) = &project.plan()["train[variant=neft5]"];
    assert_eq!((state.as_str(), &reasons[0]["code"]), ("run", &json!("output_missing")));
    assert!(project.run().contains(&"train[variant=neft5]".to_owned()));
    assert_eq!(project.digests(), before);
}

#[test]
fn forced_stages_run_and_yield_the_same_bytes() {
    let project = Project::tiny();
    project.run();
    let before = project.digests();
    let ended = project.neftpipe(&["run", "tiny.yaml", "--force", "train[variant=neft5]", "--json"]).exits(0);
    assert_eq!(ended.json()["executed"], 1);
    assert_eq!(project.digests(), before);
}
