//! Attempts in real processes: workers that are shell scripts, commands, and what is left of them.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use indexmap::IndexMap;
use neftpipe::exec::{CommandTask, Executor, Level, Local, Outcome, Stop, Task, Workers};
use neftpipe_protocol::event::EventBody;
use neftpipe_protocol::params::CommandParams;
use neftpipe_protocol::request::{Request, StageResult};
use neftpipe_protocol::{FailureClass, Kind, PROTOCOL_VERSION};
use serde_json::{Value, json};
use tempfile::TempDir;

use common::wait_for;

const SUCCEEDED: &str = r#"{"status":"succeeded","outputs":{},"metrics":{},"measured":{},"provenance":{}}"#;

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(bench.attempt().join("out")).unwrap();
        bench
    }

    fn attempt(&self) -> PathBuf {
        self.folder.path().join("attempt")
    }

    /// A worker program whose `exec` is this script, and which says that it carries out `download` of this version.
    fn worker(&self, version: u32, script: &str) -> Local {
        let path = self.folder.path().join("neftpipe-stage");
        let describe =
            json!({"protocol": PROTOCOL_VERSION, "worker": "stand-in 1", "kinds": {"download": version}, "facts": {}});
        let text = format!("#!/bin/sh\nif [ $1 = describe ]; then echo '{describe}'; exit; fi\n{script}\n");
        // Written by another process: a file that ours had open for writing when some thread forked cannot be executed.
        let draft = self.folder.path().join("draft");
        fs::write(&draft, text).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Command::new("cp").args([&draft, &path]).status().unwrap().success());
        self.local()
    }

    fn local(&self) -> Local {
        let folder = self.folder.path();
        Local::new(Workers::new(Some(folder.to_owned()), folder.join("memory.json")), folder.to_owned())
    }

    fn request(&self, kind: Kind, params: Value) -> Request {
        Request {
            protocol: PROTOCOL_VERSION,
            kind,
            version: kind.version(),
            stage: "stage".to_owned(),
            params,
            inputs: IndexMap::new(),
            attempt: self.attempt(),
            out: self.attempt().join("out"),
            known: None,
            partial: None,
            checkpoints: Vec::new(),
            lineage: None,
            base: self.folder.path().to_owned(),
            resolved: None,
            budget: None,
            torch_worker: None,
            offline: false,
            threads: 1,
        }
    }

    fn download(&self) -> Task {
        Task { request: self.request(Kind::Download, json!({})), command: None, timeout: None, gpus: None }
    }

    fn command(&self, params: Value) -> Task {
        let typed: CommandParams = serde_json::from_value(params).unwrap();
        let request = self.request(Kind::Command, serde_json::to_value(&typed).unwrap());
        let work = self.attempt().join("work");
        fs::create_dir_all(&work).unwrap();
        let command = Some(CommandTask::new(&typed, &request, work).unwrap());
        Task { request, command, timeout: None, gpus: None }
    }
}

fn execute(local: &Local, task: &Task) -> (Outcome, Vec<EventBody>) {
    let mut events = Vec::new();
    let outcome = local.execute(task, &mut |event| events.push(event.body), &Stop::default());
    (outcome, events)
}

fn failure(outcome: Outcome) -> neftpipe_protocol::Failure {
    match outcome {
        Outcome::Finished(StageResult::Failed(failure)) | Outcome::NotStarted(failure) => failure,
        other => panic!("no failure: {other:?}"),
    }
}

/// Whether a process is alive: there, and not a zombie that nobody has asked for.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}

fn pid_in(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().filter(|text| text.ends_with('\n')).map(|text| text.trim().to_owned())
}

#[test]
fn a_worker_is_heard_to_its_last_word() {
    let bench = Bench::new();
    let line = r#"{"seq":0,"time_ms":1,"event":"progress","done":1,"unit":"rows"}"#;
    let local = bench.worker(
        Kind::Download.version(),
        &format!("test \"$2\" = --request && test -f \"$3\" || exit 9\nprintf '%s' '{}' >> events.jsonl\nsleep 0.2\nprintf '%s\\nnonsense\\n' '{}' >> events.jsonl\nprintf '%s\\n' '{line}' >> events.jsonl\necho '{SUCCEEDED}' > result.json", &line[..20], &line[20..]),
    );
    let (outcome, events) = execute(&local, &bench.download());
    assert!(matches!(outcome, Outcome::Finished(StageResult::Succeeded(_))), "{outcome:?}");
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| matches!(event, EventBody::Progress { done: 1, .. })));
}

#[test]
fn result_and_exit_status_must_agree() {
    let version = Kind::Download.version();
    for script in [
        "exit 0".to_owned(),
        format!("echo '{SUCCEEDED}' > result.json; exit 1"),
        "echo broken > result.json".to_owned(),
    ] {
        let bench = Bench::new();
        let (outcome, _) = execute(&bench.worker(version, &script), &bench.download());
        assert!(matches!(outcome, Outcome::Died { killed: false, .. }), "{script}: {outcome:?}");
    }
    let bench = Bench::new();
    let (outcome, _) = execute(&bench.worker(version, "kill -9 $$"), &bench.download());
    assert!(matches!(outcome, Outcome::Died { killed: true, .. }), "{outcome:?}");
    let bench = Bench::new();
    let script = r#"echo '{"status":"failed","class":"data","message":"row 3"}' > result.json; exit 1"#;
    let failure = failure(execute(&bench.worker(version, script), &bench.download()).0);
    assert_eq!((failure.class, failure.message.as_str()), (FailureClass::Data, "row 3"));
}

#[test]
fn a_missing_worker_and_one_of_another_build_are_told_from_one_another() {
    let bench = Bench::new();
    let missing = failure(execute(&bench.local(), &bench.download()).0);
    assert_eq!(missing.class, FailureClass::Environment);
    assert!(missing.message.contains("neftpipe-stage is not installed") && missing.hint.is_some());
    let other = failure(execute(&bench.worker(77, "exit 0"), &bench.download()).0);
    assert!(other.message.contains("download@77"), "{other}");
    let mended = execute(
        &bench.worker(Kind::Download.version(), &format!("echo '{SUCCEEDED}' > result.json")),
        &bench.download(),
    );
    assert!(matches!(mended.0, Outcome::Finished(StageResult::Succeeded(_))), "a new file is asked anew");
}

#[test]
fn time_that_is_over_ends_all_of_the_group() {
    let bench = Bench::new();
    let mut task = bench.command(json!({"run": "sleep 300 & echo $! > {out}/pid; wait"}));
    task.timeout = Some(Duration::from_secs(2)); // enough for a shell to start on a busy machine
    let (outcome, _) = execute(&bench.local(), &task);
    assert!(matches!(outcome, Outcome::TimedOut(_)), "{outcome:?}");
    let pid = pid_in(&task.request.out.join("pid")).unwrap();
    wait_for("the end of all of the group", || (!is_alive(&pid)).then_some(()));
}

#[test]
fn what_a_command_leaves_running_is_ended_before_its_outputs_are_taken() {
    let bench = Bench::new();
    let task = bench.command(json!({"run": "sleep 300 & echo $! > {out}/pid"}));
    let (outcome, _) = execute(&bench.local(), &task);
    assert!(matches!(outcome, Outcome::Finished(StageResult::Succeeded(_))), "{outcome:?}");
    let pid = pid_in(&task.request.out.join("pid")).unwrap();
    wait_for("the end of what was left running", || (!is_alive(&pid)).then_some(()));
}

#[test]
fn a_worker_that_is_asked_to_stop_may_save_its_work() {
    let bench = Bench::new();
    let script = r#"trap 'echo "{\"status\":\"interrupted\"}" > result.json; exit 1' TERM
        touch ready; while :; do sleep 0.05; done"#;
    let local = bench.worker(Kind::Download.version(), script);
    let (task, stop) = (bench.download(), Stop::default());
    let outcome = std::thread::scope(|scope| {
        let attempt = scope.spawn(|| local.execute(&task, &mut |_| (), &stop));
        wait_for("the worker", || bench.attempt().join("ready").exists().then_some(()));
        stop.request(Level::Finish);
        attempt.join().unwrap()
    });
    assert!(matches!(outcome, Outcome::Finished(StageResult::Interrupted)), "{outcome:?}");
}

#[test]
fn a_program_that_a_cluster_asks_to_stop_before_us_was_not_at_fault() {
    for run in ["kill -TERM $$", "exit 143"] {
        let bench = Bench::new();
        let (task, stop) = (bench.command(json!({ "run": run })), Stop::default());
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_for("its log", || bench.attempt().join("stdout.log").exists().then_some(()));
                std::thread::sleep(Duration::from_millis(100));
                stop.request(Level::Finish);
            });
            bench.local().execute(&task, &mut |_| (), &stop)
        });
        assert!(matches!(outcome, Outcome::Cancelled), "{run}: {outcome:?}");
        let bench = Bench::new();
        let (outcome, _) = execute(&bench.local(), &bench.command(json!({ "run": run })));
        assert!(!matches!(outcome, Outcome::Cancelled), "{run}: nobody asks us");
    }
}

#[test]
fn who_does_not_stop_when_asked_is_ended_when_asked_again() {
    let bench = Bench::new();
    let task = bench.command(json!({"run": "trap '' TERM; echo $$ > {out}/pid; while :; do sleep 0.05; done"}));
    let (local, stop) = (bench.local(), Stop::default());
    let outcome = std::thread::scope(|scope| {
        let attempt = scope.spawn(|| local.execute(&task, &mut |_| (), &stop));
        let pid = wait_for("the command", || pid_in(&task.request.out.join("pid")));
        stop.request(Level::Finish);
        std::thread::sleep(Duration::from_millis(200));
        assert!(is_alive(&pid));
        stop.request(Level::Kill);
        attempt.join().unwrap()
    });
    assert!(matches!(outcome, Outcome::Cancelled), "{outcome:?}");
}

#[test]
fn a_command_sees_no_more_of_the_environment_than_it_names() {
    let bench = Bench::new();
    let mut task = bench.command(json!({"run": "env > {out}/env; pwd > {out}/pwd", "env": ["CARGO_MANIFEST_DIR"]}));
    task.gpus = Some(vec!["3".to_owned(), "5".to_owned()]);
    let (outcome, _) = execute(&bench.local(), &task);
    assert!(matches!(outcome, Outcome::Finished(StageResult::Succeeded(_))), "{outcome:?}");
    let text = fs::read_to_string(task.request.out.join("env")).unwrap();
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name)); // what shells set themselves
    names.sort_unstable();
    assert_eq!(
        names,
        ["CARGO_MANIFEST_DIR", "CUDA_VISIBLE_DEVICES", "HOME", "LANG", "OMP_NUM_THREADS", "PATH", "TMPDIR"]
    );
    assert!(text.contains("LANG=C.UTF-8\n") && text.contains("CUDA_VISIBLE_DEVICES=3,5\n"));
    assert_eq!(
        fs::read_to_string(task.request.out.join("pwd")).unwrap().trim(),
        bench.attempt().join("work").to_str().unwrap()
    );
}

#[test]
fn a_command_may_name_more_than_an_argument_holds() {
    let bench = Bench::new();
    let words: Vec<String> = (0..20_000).map(|i| format!("word {i}")).collect();
    let run = "for w in {params.words}; do echo \"$w\"; done > {out}/words";
    let task = bench.command(json!({"run": run, "params": {"words": words}}));
    let (outcome, _) = execute(&bench.local(), &task);
    assert!(matches!(outcome, Outcome::Finished(StageResult::Succeeded(_))), "{outcome:?}");
    assert_eq!(fs::read_to_string(task.request.out.join("words")).unwrap(), words.join("\n") + "\n");
}

#[test]
fn a_command_that_fails_says_what_it_printed_last() {
    let bench = Bench::new();
    let task = bench.command(json!({"run": "echo working; echo 'no such column: x' >&2; exit 3"}));
    let failed = failure(execute(&bench.local(), &task).0);
    assert_eq!(failed.class, FailureClass::Data);
    assert_eq!(failed.message, "the command ended with exit status 3; it last printed:\nno such column: x");
    let bench = Bench::new();
    let task = bench.command(json!({"run": "touch {out}/a", "outputs": {"table": {"path": "t.csv"}}}));
    assert!(failure(execute(&bench.local(), &task).0).message.contains("left no t.csv"));
}

#[test]
fn a_secret_that_a_command_prints_is_told_nowhere() {
    let secret = env!("CARGO_MANIFEST_DIR"); // a variable that tests have
    let bench = Bench::new();
    let run = "echo at {env.CARGO_MANIFEST_DIR}; echo \"no {env.CARGO_MANIFEST_DIR}\" >&2; exit 3";
    let task = bench.command(json!({"run": run, "secrets": ["CARGO_MANIFEST_DIR"]}));
    let failed = failure(execute(&bench.local(), &task).0);
    assert_eq!(failed.message, "the command ended with exit status 3; it last printed:\nno ***");
    for log in ["stdout.log", "stderr.log"] {
        let text = fs::read_to_string(bench.attempt().join(log)).unwrap();
        assert!(text.contains("***") && !text.contains(secret), "{text}");
    }
}

#[test]
fn nothing_outlives_a_runner_that_is_killed_outright() {
    let bench = Bench::new();
    let pids = bench.folder.path().join("pids");
    let mut runner = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "a_runner_to_be_killed"])
        .env("NEFTPIPE_TEST_FOLDER", bench.folder.path())
        .spawn()
        .unwrap();
    let text = wait_for("the command", || pid_in(&pids));
    runner.kill().unwrap();
    runner.wait().unwrap();
    for pid in text.split_whitespace() {
        wait_for("the end of the command and its child", || (!is_alive(pid)).then_some(()));
    }
}

#[test]
#[ignore = "the process that another test kills"]
fn a_runner_to_be_killed() {
    let folder = PathBuf::from(std::env::var_os("NEFTPIPE_TEST_FOLDER").unwrap());
    let bench = Bench::new();
    let pids = folder.join("pids");
    let run = format!("sleep 300 & echo $$ $! > {}; wait", pids.display());
    execute(&bench.local(), &bench.command(json!({ "run": run })));
}
