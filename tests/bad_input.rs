//! Bad input: a clear error, the documented exit code, nothing lost.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Ended, Project};

fn run(project: &Project) -> Ended {
    project.neftpipe(&["run", "tiny.yaml"])
}

/// Edits the pipeline, runs it, and checks the exit code and what is said.
fn refused(edit: (&str, &str), code: i32, said: &[&str]) {
    let project = Project::tiny();
    project.edit("tiny.yaml", edit.0, edit.1);
    says(run(&project).exits(code), said);
}

fn says(ended: Ended, said: &[&str]) {
    for text in said {
        assert!(ended.stderr.contains(text), "`{text}` is not said:\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn an_unknown_key() {
    refused(("holdout: 0.2", "holdut: 0.2"), 2, &["holdut", "tiny.yaml:", "holdout"]);
}

#[test]
fn a_wrong_type() {
    refused(("max_length: 256", "max_length: many"), 2, &["max_length", "tiny.yaml:"]);
}

#[test]
fn a_cycle() {
    refused(
        ("needs: { dataset: data, tokenizer: model }", "needs: { dataset: lengths, tokenizer: model }"),
        2,
        &["cycle"],
    );
}

#[test]
fn a_missing_model_file() {
    refused(("file:tiny-model", "file:no-such-model"), 3, &["no-such-model"]);
    let project = Project::tiny();
    fs::remove_file(project.file("tiny-model/model.safetensors")).unwrap();
    says(run(&project).exits(1), &["safetensors"]);
}

#[test]
fn a_truncated_safetensors_file() {
    let project = Project::tiny();
    let path = project.file("tiny-model/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1000]).unwrap();
    says(run(&project).exits(1), &["model.safetensors"]);
}

#[test]
fn a_wrong_checksum() {
    let digits = "0".repeat(64);
    let edit = format!("format: alpaca, sha256: \"{digits}\"");
    refused(("format: alpaca", &edit), 1, &["arithmetic.json", &digits]);
}

#[test]
fn a_port_that_refuses() {
    refused(("file:arithmetic.json", "http://127.0.0.1:1/arithmetic.json"), 3, &["127.0.0.1:1"]);
}

#[test]
fn an_empty_dataset() {
    let project = Project::tiny();
    project.write("arithmetic.json", "[]");
    says(run(&project).exits(1), &["no row"]);
}

#[test]
fn a_window_longer_than_the_models() {
    refused(("max_length: 256", "max_length: 4096"), 2, &["4096", "512"]);
}

#[test]
fn text_that_is_not_utf_8() {
    let project = Project::tiny();
    let text = fs::read_to_string(project.file("arithmetic.json")).unwrap();
    let mut bytes = text.into_bytes();
    let at = bytes.iter().rposition(|&byte| byte == b'.').unwrap();
    bytes[at] = 0xff;
    fs::write(project.file("arithmetic.json"), bytes).unwrap();
    says(run(&project).exits(1), &["UTF-8", &at.to_string()]);
}

#[test]
fn a_prompt_that_leaves_no_room_to_generate() {
    let project = Project::tiny();
    project.edit("tiny.yaml", "prompts: tokens.heldout", "prompts: long");
    project.edit(
        "tiny.yaml",
        "stages:\n",
        "stages:\n  long:\n    download: { from: \"file:long.jsonl\", as: prompts }\n",
    );
    project.write("long.jsonl", &format!("{{\"instruction\": \"{}\"}}\n", "1 plus 2 is 3. ".repeat(200)));
    says(run(&project).exits(1), &["512"]);
}

#[test]
fn a_gpu_that_is_not_there() {
    if std::path::Path::new("/proc/driver/nvidia").exists() {
        eprintln!("skipped: this machine has a GPU");
        return;
    }
    refused(("    train: { steps", "    resources: { gpus: 1 }\n    train: { steps"), 3, &["GPU"]);
}

#[test]
fn a_full_disk() {
    let project = Project::tiny();
    let store = project.file("small");
    fs::create_dir(&store).unwrap();
    let mount =
        |args: &[&str]| std::process::Command::new(args[0]).args(&args[1..]).output().is_ok_and(|o| o.status.success());
    let place = store.to_str().unwrap();
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", place]) {
        eprintln!("skipped: a small file system cannot be mounted here");
        return;
    }
    let ended = project.neftpipe(&["run", "tiny.yaml", "--store", place]);
    assert!(mount(&["umount", "-l", place]));
    says(ended.exits(3), &["No space left"]);
    project.run();
}

#[test]
fn the_rest_of_a_pipeline_is_finished_when_a_stage_fails() {
    let project = Project::tiny();
    project.edit("tiny.yaml", "neft5: { neft.alpha: 5 }", "neft5: { neft.alpha: 5, learning_rate: 1e30, clip: 0 }");
    let ended = project.neftpipe(&["run", "tiny.yaml", "--json"]).exits(1);
    let last = ended.json();
    assert_eq!((&last["outcome"], &last["failed"]), (&"failed".into(), &1.into()));
    let plan = project.plan();
    assert_eq!(plan["verdict[variant=plain]"].0, "cached");
    assert_eq!(plan["train[variant=neft5]"].0, "run");
}
