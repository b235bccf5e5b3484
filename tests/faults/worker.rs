//! Stands in for the worker that trains and generates: the same files and events, numbers instead of tensors.
//!
//! It is this test program, started by a script that answers `describe` itself. What it leaves is a function of the
//! request alone, so that two runs can be compared byte by byte.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use neftpipe_protocol::event::{EventBody, Saved};
use neftpipe_protocol::request::{CHECKPOINTS_DIR, RESULT_FILE, StageResult, Success};
use neftpipe_protocol::worker::{Job, write_json};
use neftpipe_protocol::{ArtifactType, Digest, Kind, PROTOCOL_VERSION};
use serde_json::{Value, json};

/// The request, for the process that stands in.
const REQUEST: &str = "NEFTPIPE_FAULTS_REQUEST";
/// A step of training or a generated row takes this long.
const STEP: Duration = Duration::from_millis(1);

/// Puts the stand-in into a folder as both workers.
pub fn install(folder: &Path) {
    let program = std::env::current_exe().unwrap();
    let run = format!(
        "{REQUEST}=\"$3\" exec '{}' --exact worker::stands_in --ignored --nocapture",
        program.to_str().unwrap()
    );
    install_script(folder, &run);
}

/// Puts a script into a folder as both workers: what it does for `exec --request FILE`.
pub fn install_script(folder: &Path, script: &str) {
    let kinds: serde_json::Map<String, Value> =
        Kind::ALL.iter().map(|kind| (kind.name().to_owned(), json!(kind.version()))).collect();
    let describe = json!({"protocol": PROTOCOL_VERSION, "worker": "stand-in 1", "kinds": kinds, "facts": {}});
    let text = format!("#!/bin/sh\nif [ $1 = describe ]; then echo '{describe}'; exit; fi\n{script}\n");
    fs::create_dir_all(folder).unwrap();
    let draft = folder.join("draft");
    fs::write(&draft, text).unwrap();
    for name in ["neftpipe-stage", "neftpipe-stage-torch"] {
        // Written by another process: a file that ours had open for writing when some thread forked cannot be executed.
        let mut install = Command::new("install");
        assert!(install.args(["-m", "755"]).arg(&draft).arg(folder.join(name)).status().unwrap().success());
    }
}

#[test]
#[ignore = "the process that stands in for a worker"]
fn stands_in() {
    let job = Job::open(Path::new(&std::env::var_os(REQUEST).unwrap())).unwrap();
    note(&job.request.stage);
    let outputs = match job.request.kind {
        Kind::Download => [("output".to_owned(), download(&job))],
        Kind::Train => [("adapter".to_owned(), train(&job))],
        Kind::Generate => [("answers".to_owned(), generate(&job))],
        kind => panic!("nobody stands in for {kind}"),
    };
    job.emit(EventBody::Finished);
    let pinned = || job.request.resolved.clone().unwrap_or_else(|| json!({"commit": "1"}));
    let resolved = (job.request.kind == Kind::Download).then(pinned);
    let success = Success { outputs: outputs.into_iter().collect(), resolved, ..Success::default() };
    write_json(&job.request.attempt.join(RESULT_FILE), &StageResult::Succeeded(Box::new(success))).unwrap();
}

/// Notes that a stage was carried out, where the commands of the pipeline do.
fn note(stage: &str) {
    let path = Path::new(&std::env::var_os("HOME").unwrap()).join("executed");
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{stage}\n").as_bytes()).unwrap();
}

/// Prompts out of the air.
fn download(job: &Job) -> ArtifactType {
    fs::write(job.output("output").unwrap().join("prompts"), "1\n2\n3\n").unwrap();
    ArtifactType::Prompts
}

/// The state after a step follows from the state before it.
fn train(job: &Job) -> ArtifactType {
    let steps = job.request.params["steps"].as_u64().unwrap();
    let (done, mut state) = known_state(job).unwrap_or_else(|| (0, Digest::of_value("start", &job.request.params)));
    for step in done + 1..=steps {
        std::thread::sleep(STEP);
        state = Digest::of(format!("{state} {step}").as_bytes());
        job.progress(step, Some(steps), "steps", None);
        if job.request.checkpoints.contains(&step) {
            let folder = job.request.attempt.join(CHECKPOINTS_DIR).join(step.to_string());
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("state"), state.to_string()).unwrap();
            job.emit(EventBody::Saved { what: Saved::Checkpoint { step } });
        }
    }
    fs::write(job.output("adapter").unwrap().join("weights"), state.to_string()).unwrap();
    ArtifactType::Adapter
}

fn known_state(job: &Job) -> Option<(u64, Digest)> {
    let folder = job.request.known.as_ref()?.join(CHECKPOINTS_DIR);
    let deepest =
        fs::read_dir(&folder).ok()?.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).max()?;
    Some((deepest, fs::read_to_string(folder.join(format!("{deepest}/state"))).ok()?.parse().unwrap()))
}

/// A row follows from its prompt and the adapter.
fn generate(job: &Job) -> ArtifactType {
    let adapter = job.input("adapter").unwrap().digest;
    let prompts = fs::read_to_string(job.input("prompts").unwrap().path.join("prompts")).unwrap();
    let known = job.known_rows().unwrap();
    let rows: Vec<Value> = prompts
        .lines()
        .map(|prompt| match known.iter().find(|row| row["prompt"] == prompt) {
            Some(row) => row.clone(),
            None => {
                std::thread::sleep(STEP);
                let row = json!({"prompt": prompt, "answer": Digest::of(format!("{adapter} {prompt}").as_bytes())});
                job.save_row(&row).unwrap();
                row
            }
        })
        .collect();
    write_json(&job.output("answers").unwrap().join("answers.json"), &rows).unwrap();
    ArtifactType::Answers
}
