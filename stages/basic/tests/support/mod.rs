//! Drives the worker as the runner does: a request in an attempt directory, outputs and a result in the end.
#![allow(clippy::unwrap_used, dead_code, reason = "each test file uses its share")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use neftpipe_protocol::request::{EVENTS_FILE, REQUEST_FILE, RESULT_FILE};
use neftpipe_protocol::{Digest, Kind, PROTOCOL_VERSION};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// A temporary place for inputs and attempts.
pub struct Workplace {
    folder: tempfile::TempDir,
}

/// A worker at work.
pub struct Running {
    child: Child,
    folder: PathBuf,
}

/// What a worker left behind.
pub struct Attempt {
    /// Exit status.
    pub code: Option<i32>,
    /// `result.json`.
    pub result: Value,
    /// `events.jsonl`.
    pub events: Vec<Value>,
    folder: PathBuf,
}

impl Workplace {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A path below the place.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes an artifact of one file of JSON lines, and returns its folder.
    pub fn lines(&self, folder: &str, file: &str, rows: &[impl Serialize]) -> PathBuf {
        let text: String = rows.iter().map(|row| serde_json::to_string(row).unwrap() + "\n").collect();
        self.file(folder, file, &text)
    }

    /// Writes a file into an artifact's folder, and returns the folder.
    pub fn file(&self, folder: &str, file: &str, text: &str) -> PathBuf {
        let folder = self.path(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), text).unwrap();
        folder
    }

    /// All files below the place.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = walkdir::WalkDir::new(self.folder.path()).into_iter().map(Result::unwrap);
        entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
    }

    /// Runs a stage in a fresh attempt of this name. Inputs are slots with types and folders.
    pub fn run(&self, name: &str, kind: Kind, params: Value, inputs: &[(&str, &str, &Path)]) -> Attempt {
        self.run_with(name, kind, params, inputs, json!({}))
    }

    /// The same with further fields of the request.
    pub fn run_with(
        &self,
        name: &str,
        kind: Kind,
        params: Value,
        inputs: &[(&str, &str, &Path)],
        more: Value,
    ) -> Attempt {
        self.start(name, kind, params, inputs, more).finish()
    }

    /// Starts a stage.
    pub fn start(&self, name: &str, kind: Kind, params: Value, inputs: &[(&str, &str, &Path)], more: Value) -> Running {
        self.start_in(name, kind, params, inputs, more, &[])
    }

    /// Starts a stage with further variables in its environment.
    pub fn start_in(
        &self,
        name: &str,
        kind: Kind,
        params: Value,
        inputs: &[(&str, &str, &Path)],
        more: Value,
        variables: &[(&str, &str)],
    ) -> Running {
        let folder = self.path(name);
        fs::create_dir_all(folder.join("out")).unwrap();
        let mut slots = Map::new();
        for (slot, artifact_type, path) in inputs {
            let digest = Digest::of(path.to_string_lossy().as_bytes());
            let input = json!({"path": path, "type": artifact_type, "digest": digest, "stage": slot, "axes": {}});
            slots.insert((*slot).to_owned(), json!([input]));
        }
        let mut request = json!({
            "protocol": PROTOCOL_VERSION, "kind": kind, "version": kind.version(), "stage": name, "params": params,
            "inputs": slots, "attempt": folder, "out": folder.join("out"), "base": self.folder.path(), "threads": 2,
        });
        for (field, value) in more.as_object().unwrap() {
            request[field] = value.clone();
        }
        let file = folder.join(REQUEST_FILE);
        fs::write(&file, request.to_string()).unwrap();
        let mut worker = Command::new(env!("CARGO_BIN_EXE_neftpipe-stage"));
        let log = fs::File::create(folder.join("stderr.log")).unwrap();
        worker.args(["exec", "--request"]).arg(&file).envs(variables.iter().copied()).stderr(log);
        let child = worker.spawn().unwrap();
        Running { child, folder }
    }
}

impl Running {
    /// Waits for the end.
    pub fn finish(mut self) -> Attempt {
        let code = self.child.wait().unwrap().code();
        let result = read_json(&self.folder.join(RESULT_FILE));
        let events = read_lines(&self.folder.join(EVENTS_FILE));
        Attempt { code, result, events, folder: self.folder }
    }

    /// Asks the worker to stop as soon as this file of the attempt is there and not empty, and waits for the end.
    pub fn stop_after(self, file: &str) -> Attempt {
        let path = self.folder.join(file);
        while !fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 0) {
            std::thread::sleep(Duration::from_millis(5));
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.finish()
    }
}

impl Running {
    /// Kills the worker as soon as this file of the attempt holds so many lines. Returns the attempt's folder.
    pub fn kill_after(mut self, file: &str, lines: usize) -> PathBuf {
        let path = self.folder.join(file);
        while !fs::read_to_string(&path).is_ok_and(|text| text.matches('\n').count() >= lines) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.folder
    }
}

impl Attempt {
    /// The attempt, which must have succeeded.
    pub fn succeeded(self) -> Self {
        assert_eq!((self.code, &self.result["status"]), (Some(0), &json!("succeeded")), "{}", self.result);
        self
    }

    /// Class and message of the failure that it must have ended with.
    pub fn failure(&self) -> (&str, &str) {
        assert_eq!((self.code, &self.result["status"]), (Some(1), &json!("failed")), "{}", self.result);
        (self.result["class"].as_str().unwrap(), self.result["message"].as_str().unwrap())
    }

    /// A file of an output.
    pub fn out(&self, file: &str) -> PathBuf {
        self.folder.join("out").join(file)
    }

    /// A file of the attempt directory.
    pub fn file(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Codes of the warnings, in order.
    pub fn warnings(&self) -> Vec<&str> {
        self.events("warning").filter_map(|event| event["code"].as_str()).collect()
    }

    /// Events of one kind.
    pub fn events(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(move |event| event["event"] == kind)
    }
}

/// Reads a JSON file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}\n{text}", path.display()))
}

/// Reads a file of JSON lines.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
