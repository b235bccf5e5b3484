//! Whatever is killed when, the same command again finishes with the bytes of an undisturbed run.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../stages/basic/tests/download/server.rs"]
mod server;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::Project;
use rustix::process::{Pid, Signal, kill_process};

/// A pipeline whose training is long enough to be hit.
fn project() -> Project {
    let project = Project::tiny();
    project.edit("tiny.yaml", "steps: 4", "steps: 60");
    project
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        // It may have ended by itself meanwhile.
        let _gone = kill_process(pid, signal);
    }
}

/// Processes whose command line names this folder.
fn workers_of(folder: &Path) -> Vec<u32> {
    let wanted = folder.to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&wanted)
    })
    .collect()
}

/// Waits for a worker of the kind to be at work. None where the run ended before.
fn wait_for_worker(project: &Project, child: &mut std::process::Child, stage: &str) -> Option<u32> {
    let attempts = project.file("cache/attempts");
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        for pid in workers_of(&attempts) {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(stage) {
                return Some(pid);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

#[test]
fn kill_9_of_the_program_at_any_moment_loses_nothing() {
    let reference = project();
    reference.run();
    let disturbed = project();
    for round in 0..8u64 {
        let mut child = disturbed.start(&["run", "tiny.yaml"]);
        std::thread::sleep(Duration::from_millis(120 + 230 * round));
        signal(child.id(), Signal::KILL);
        child.wait().unwrap();
    }
    disturbed.run();
    assert_eq!(disturbed.digests(), reference.digests());
    assert!(fs::read_dir(disturbed.file("cache/attempts")).unwrap().filter_map(Result::ok).all(|e| !e.path().is_dir()));
}

#[test]
fn kill_9_of_a_worker_fails_its_stage_and_the_next_run_finishes() {
    let reference = project();
    reference.run();
    let disturbed = project();
    let mut child = disturbed.start(&["run", "tiny.yaml"]);
    let worker =
        wait_for_worker(&disturbed, &mut child, "train_variant=plain").expect("training is at work for a while");
    signal(worker, Signal::KILL);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    disturbed.run();
    assert_eq!(disturbed.digests(), reference.digests());
}

#[test]
fn a_download_goes_on_where_a_killed_run_left_it() {
    use server::{Answer, Server};
    let body: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let whole = body.clone();
    let server = Server::start(move |asked| match asked.header("range") {
        None => Answer::new(200, &body).header("ETag", "\"v1\"").cut(200_000),
        // Before the kill: a pause that is longer than the test.
        Some(_) if asked.before == 1 => Answer::new(503, "").header("Retry-After", 100),
        Some("bytes=200000-") => {
            Answer::new(206, &body[200_000..]).header("Content-Range", "bytes 200000-299999/300000")
        }
        Some(_) => Answer::new(400, "unexpected"),
    });
    let project = Project::tiny();
    let from = format!("{}/x.dat", server.url);
    let text = format!("version: 1\nname: web\nstages:\n  file: {{ download: {{ from: \"{from}\" }} }}\n");
    project.write("web.yaml", &text);
    let mut child = project.start(&["run", "web.yaml"]);
    while server.paths().len() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "the run waits for the server");
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(child.id(), Signal::KILL);
    child.wait().unwrap();

    project.neftpipe(&["run", "web.yaml"]).exits(0);
    let asked = server.asked();
    assert_eq!((asked.len(), asked[2].header("if-range")), (3, Some("\"v1\"")), "{asked:?}");
    let path = project.neftpipe(&["path", "web:file"]).exits(0).stdout;
    assert_eq!(fs::read(Path::new(path.trim()).join("x.dat")).unwrap(), whole);
}

#[test]
fn no_worker_outlives_the_program() {
    let project = project();
    let mut child = project.start(&["run", "tiny.yaml"]);
    wait_for_worker(&project, &mut child, "train_variant=plain").expect("training is at work for a while");
    signal(child.id(), Signal::KILL);
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !workers_of(&project.file("cache/attempts")).is_empty() {
        assert!(Instant::now() < deadline, "workers are still there");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the run has told of a training step. None where the run ended before.
fn wait_for_a_step(project: &Project, child: &mut std::process::Child) -> Option<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        let runs = fs::read_dir(project.file("cache/runs")).into_iter().flatten().filter_map(Result::ok);
        let told = |run: fs::DirEntry| fs::read_to_string(run.path().join("journal.jsonl")).unwrap_or_default();
        if runs.map(told).any(|journal| journal.contains("stage_metric")) {
            return Some(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

#[test]
fn ctrl_c_saves_a_checkpoint_and_training_goes_on_from_it() {
    const STEPS: u64 = 400;
    let project = project();
    project.edit("tiny.yaml", "steps: 60", &format!("steps: {STEPS}"));
    project.edit("tiny.yaml", "checkpoint_every: 2", "checkpoint_every: 1000");
    let mut child = project.start(&["run", "tiny.yaml", "train[variant=plain]"]);
    wait_for_a_step(&project, &mut child).expect("training is at work for a while");
    signal(child.id(), Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    project.neftpipe(&["run", "tiny.yaml", "train[variant=plain]"]).exits(0);
    let shown = project.neftpipe(&["show", "train[variant=plain]", "--json"]).exits(0).json();
    let (steps, computed) = (shown["metrics"]["steps"].as_u64(), shown["metrics"]["steps_computed"].as_u64());
    assert_eq!(steps, Some(STEPS));
    assert!(computed < steps, "{computed:?} of {steps:?}");
}

#[test]
fn two_programs_at_once_share_the_work() {
    let project = project();
    let mut first = project.start(&["run", "tiny.yaml"]);
    let mut second = project.start(&["run", "tiny.yaml"]);
    assert!(first.wait().unwrap().success());
    assert!(second.wait().unwrap().success());
    assert!(project.run().is_empty());
}
