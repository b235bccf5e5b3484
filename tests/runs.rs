//! Runs as other processes see them: what they are, and how they are ended from outside.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::Child;

use common::{Project, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A project whose only pipeline waits for a file.
fn project() -> Project {
    let project = Project::tiny();
    let script =
        "touch {params.folder}/began; while ! test -e {params.folder}/go; do sleep 0.05; done; echo x > {out}/x";
    let folder = project.path().display();
    project.write(
        "slow.yaml",
        &format!(
            "version: 1\nname: slow\nstages:\n  wait:\n    command: {{ run: '{script}', params: {{ folder: '{folder}' }} }}\n"
        ),
    );
    project
}

/// Starts the pipeline and waits until its command is at work. The run and its process.
fn start(project: &Project) -> (String, Child) {
    let child = project.start(&["run", "slow.yaml"]);
    wait_for("the command", || project.file("began").exists().then_some(()));
    let newest = newest(project);
    assert_eq!(newest["state"], "running");
    (newest["run"].as_str().unwrap().to_owned(), child)
}

fn newest(project: &Project) -> Value {
    project.neftpipe(&["runs", "--json"]).exits(0).json()["runs"][0].clone()
}

#[test]
fn a_run_is_told_to_go_on_to_be_interrupted_or_to_have_been_killed() {
    let project = project();
    let (_, mut child) = start(&project);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(newest(&project)["state"], "killed");
    std::fs::remove_file(project.file("began")).unwrap();
    let (_, mut child) = start(&project);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(newest(&project)["state"], "interrupted");
    project.write("go", "");
    project.neftpipe(&["run", "slow.yaml"]).exits(0);
    assert_eq!(newest(&project)["state"], "succeeded");
}

#[test]
fn cancel_ends_a_run_and_waits_for_its_end() {
    for args in [&["cancel"][..], &["cancel", "--now"]] {
        let project = project();
        let (run, mut child) = start(&project);
        let told = project.neftpipe(&[args, &[&run, "--json"]].concat()).exits(0).json();
        assert_eq!((&told["run"], &told["state"]), (&run.as_str().into(), &"interrupted".into()));
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(project.neftpipe(&["cancel", &run]).exits(0).stdout, format!("{run}: interrupted\n"));
    }
    project().neftpipe(&["cancel", "20200101-000000-0000"]).exits(2);
}

#[test]
fn a_run_of_another_host_is_not_touched() {
    let project = project();
    let (run, mut child) = start(&project);
    let record = format!("cache/runs/{run}/run.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(project.file(&record)).unwrap()).unwrap();
    value["process"]["realm"] = "another boot".into();
    value["process"]["host"] = "node7".into();
    project.write(&record, &value.to_string());
    let refused = project.neftpipe(&["cancel", &run]).exits(3).stderr;
    assert!(refused.contains("of node7") && refused.contains("scancel"), "{refused}");
    assert_eq!(newest(&project)["state"], "running", "its lock is held");
    project.write("go", "");
    assert!(child.wait().unwrap().success());
}
