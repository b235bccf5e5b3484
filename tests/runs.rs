//! Runs as other processes see them: what they are, and how they are ended from outside.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Child, Stdio};

use common::{Project, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A project whose pipeline waits for the file `go`, and fails if something is in it.
fn project() -> Project {
    let project = Project::tiny();
    let script = "echo one; touch {params.folder}/began; while ! test -e {params.folder}/go; do sleep 0.05; done; \
                  echo two >&2; test ! -s {params.folder}/go && echo x > {out}/x";
    let folder = project.path().display();
    project.write(
        "slow.yaml",
        &format!(
            "version: 1\nname: slow\nstages:\n  wait:\n    command: {{ run: '{script}', params: {{ folder: '{folder}' }} }}\n  \
             next:\n    needs: {{ waited: wait }}\n    command: {{ run: 'cp {{in.waited}}/x {{out}}' }}\n"
        ),
    );
    project
}

/// Starts the pipeline and waits until its command is at work. The run and its process.
fn start(project: &Project) -> (String, Child) {
    let child = project.start(&["run", "slow.yaml"]);
    wait_for("the command", || project.file("began").exists().then_some(()));
    let running = || Some(newest(project)).filter(|run| run["state"] == "running");
    let run = wait_for("the run to be listed", running);
    (run["run"].as_str().unwrap().to_owned(), child)
}

/// Lets the command end; it fails where there is a text.
fn let_go(project: &Project, text: &str) {
    project.write("go.draft", text);
    std::fs::rename(project.file("go.draft"), project.file("go")).unwrap();
}

fn newest(project: &Project) -> Value {
    project.neftpipe(&["runs", "--json"]).exits(0).json()["runs"][0].clone()
}

#[test]
fn a_run_is_told_to_go_on_to_be_interrupted_or_to_have_been_killed() {
    let project = project();
    let (_, mut child) = start(&project);
    let shown = project.neftpipe(&["show"]).exits(0);
    assert!(shown.stdout.contains("at work") && shown.stdout.contains("waiting"), "{}", shown.stdout);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(newest(&project)["state"], "killed");
    let shown = project.neftpipe(&["show"]).exits(0);
    assert!(shown.stderr.contains("killed: what was finished is kept"), "{}", shown.stderr);
    assert!(shown.stdout.contains("wait") && shown.stdout.contains("killed"), "{}", shown.stdout);
    assert!(shown.stdout.contains("next") && shown.stdout.contains("not begun"), "{}", shown.stdout);
    std::fs::remove_file(project.file("began")).unwrap();
    let (_, mut child) = start(&project);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let interrupted = newest(&project);
    assert_eq!(interrupted["state"], "interrupted");
    assert_eq!((&interrupted["executed"], &interrupted["interrupted"]), (&0.into(), &1.into()));
    let_go(&project, "");
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
    let_go(&project, "");
    assert!(child.wait().unwrap().success());
}

/// Starts a program whose output is wanted when it ends.
fn listen(project: &Project, args: &[&str]) -> Child {
    project.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_detached_run_outlives_its_terminal_and_is_followed_to_its_end() {
    for (go, code, word) in [("", 0, "succeeded"), ("fail", 1, "failed")] {
        let project = project();
        let told = project.neftpipe(&["run", "--detach", "slow.yaml"]).exits(0);
        let run = told.stdout.trim();
        assert!(told.stderr.contains(&format!("neftpipe logs {run} --follow")), "{}", told.stderr);
        wait_for("the command", || project.file("began").exists().then_some(()));
        let pid = newest(&project)["process"]["pid"].as_i64().unwrap();
        let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
        assert_eq!(rustix::process::getsid(Some(pid)).unwrap(), pid, "it leads a session of its own");
        kill_process(pid, Signal::HUP).unwrap();
        let follower = listen(&project, &["logs", run, "--follow"]);
        let second = listen(&project, &["logs", run, "--follow", "--json"]);
        let_go(&project, go);
        let seen = follower.wait_with_output().unwrap();
        let lines = String::from_utf8(seen.stdout).unwrap();
        assert_eq!(seen.status.code(), Some(code), "{lines}");
        assert!(lines.contains("wait") && lines.contains(word), "{lines}");
        let events = String::from_utf8(second.wait_with_output().unwrap().stdout).unwrap();
        let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
        assert_eq!((&last["event"], &last["outcome"]), (&"run_finished".into(), &word.into()));
        assert_eq!(project.neftpipe(&["logs", run]).exits(0).stdout, lines, "it can be read again");
    }
}

#[test]
fn a_mistake_is_told_before_anything_is_detached() {
    let project = project();
    project.write("slow.yaml", "version: 1\nname: slow\nstages: { a: { comand: 1 } }\n");
    project.neftpipe(&["run", "--detach", "slow.yaml"]).exits(2);
    assert_eq!(project.neftpipe(&["run", "--detach", "--gpus", "77", "tiny.yaml"]).exits(3).stdout, "");
}

#[test]
fn a_hang_up_stops_a_run_unless_it_was_started_with_nohup() {
    let project = project();
    // Whoever runs the tests may ignore the signal, and programs inherit that.
    let mut child = start_by(&project, &["env", "--default-signal=HUP"]);
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    std::fs::remove_file(project.file("began")).unwrap();
    let mut child = start_by(&project, &["nohup"]);
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    let_go(&project, "");
    assert!(child.wait().unwrap().success());
}

/// Starts the run by another program, and waits until its command is at work.
fn start_by(project: &Project, starter: &[&str]) -> Child {
    let mut run = std::process::Command::new(starter[0]);
    run.args(&starter[1..]).arg(project.command(&[]).get_program()).args(["run", "slow.yaml"]);
    let child = run.current_dir(project.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the command", || project.file("began").exists().then_some(()));
    child
}

#[test]
fn what_a_stage_prints_is_followed_until_it_ends_and_stays_readable() {
    let project = project();
    let (run, mut child) = start(&project);
    let follower = listen(&project, &["logs", "wait", "--follow"]);
    let_go(&project, "");
    assert!(child.wait().unwrap().success());
    let seen = follower.wait_with_output().unwrap();
    assert!(seen.status.success(), "{}", String::from_utf8_lossy(&seen.stderr));
    let seen = String::from_utf8(seen.stdout).unwrap();
    assert!(seen.contains("one\n") && seen.contains("two\n") && seen.len() == "one\ntwo\n".len(), "{seen}");
    project.neftpipe(&["run", "slow.yaml"]).exits(0);
    let cached = project.neftpipe(&["logs", "wait"]).exits(0);
    assert_eq!(cached.stdout, "two\none\n", "stderr first");
    assert!(cached.stderr.contains(&run), "{}", cached.stderr);
    project.neftpipe(&["logs", "wait", "--follow"]).exits(0);
}

#[test]
fn following_a_run_that_is_killed_ends_and_says_so() {
    let project = project();
    let told = project.neftpipe(&["run", "slow.yaml", "--detach", "--json"]).exits(0).json();
    assert_eq!(told.as_object().unwrap().keys().collect::<Vec<_>>(), ["version", "run"]);
    project.neftpipe(&["cancel", "--now", told["run"].as_str().unwrap()]).exits(0);
    std::fs::remove_file(project.file("began")).unwrap_or_default();
    let (run, mut child) = start(&project);
    let follower = listen(&project, &["logs", &run, "--follow"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let seen = follower.wait_with_output().unwrap();
    assert_eq!(seen.status.code(), Some(3));
    assert!(String::from_utf8(seen.stderr).unwrap().contains("was killed"));
}

#[test]
fn who_waits_for_a_run_that_is_killed_does_its_work() {
    let project = project();
    let (run, mut child) = start(&project);
    let second = listen(&project, &["run", "slow.yaml", "--json"]);
    let waiting = || {
        let journals = std::fs::read_dir(project.file("cache/runs")).unwrap().flatten();
        let journals = journals.filter_map(|folder| std::fs::read_to_string(folder.path().join("journal.jsonl")).ok());
        let holder = format!("\"holder\":\"run {run}\"");
        journals.into_iter().any(|journal| journal.contains(&holder)).then_some(())
    };
    wait_for("the second run to wait", waiting);
    child.kill().unwrap();
    child.wait().unwrap();
    let_go(&project, "");
    let ended = second.wait_with_output().unwrap();
    let last: Value = serde_json::from_slice(ended.stdout.split(|&byte| byte == b'\n').rev().nth(1).unwrap()).unwrap();
    assert_eq!((&last["outcome"], &last["executed"]), (&"succeeded".into(), &2.into()));
}

#[test]
fn every_signal_that_a_cluster_sends_stops_a_run_that_the_same_command_goes_on_with() {
    for signal in [Signal::INT, Signal::TERM, Signal::USR1] {
        let project = project();
        let (_, mut child) = start(&project);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let_go(&project, "");
        project.neftpipe(&["run", "slow.yaml"]).exits(0);
    }
}

#[test]
fn an_implementation_that_cannot_be_accepted_is_a_mistake_of_usage() {
    let project = project();
    for (wrong, said) in
        [("train", "train@3"), ("fry@1", "the kinds are"), ("train@99", "train is at version"), ("train@0", "")]
    {
        let refused = project.neftpipe(&["plan", "slow.yaml", "--accept", wrong]).exits(2).stderr;
        assert!(refused.contains(said), "{refused}");
    }
}
