//! A worker program given a request as neftpipe gives it one, so that a stage can be measured again and again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// A stage for a worker.
pub struct Stage<'a> {
    /// The program.
    pub worker: PathBuf,
    /// `tokenize`, `train`, `generate`.
    pub kind: &'a str,
    /// Its parameters.
    pub params: Value,
    /// Slot, type and folder of each input.
    pub inputs: Vec<(&'a str, &'a str, PathBuf)>,
    /// Threads that it may use.
    pub threads: usize,
}

/// A stage that was carried out.
pub struct Ran {
    /// Where its outputs are.
    pub out: PathBuf,
    /// What it measured of itself.
    pub measured: Value,
    /// The figures of each step.
    pub steps: Vec<Value>,
    /// Seconds from the start of the program to the end of its first step.
    pub first_step: f64,
}

impl Stage<'_> {
    /// Carries it out in a folder, which is emptied first.
    pub fn run(&self, folder: &Path) -> io::Result<Ran> {
        let mut command = self.command(folder)?;
        let (attempt, out) = places(folder);
        let started = now();
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        let result: Value = serde_json::from_slice(&fs::read(attempt.join("result.json"))?)?;
        if !status.success() {
            return Err(io::Error::other(format!("{}: {result}", self.kind)));
        }
        let events = fs::read_to_string(attempt.join("events.jsonl"))?;
        let events: Vec<Value> = events.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let steps: Vec<&Value> = events.iter().filter(|event| event["event"] == "metric").collect();
        let first = steps.first().and_then(|event| event["time_ms"].as_f64()).unwrap_or(f64::NAN);
        Ok(Ran {
            out,
            measured: result["measured"].clone(),
            steps: steps.iter().map(|event| event["values"].clone()).collect(),
            first_step: first / 1000.0 - started,
        })
    }

    /// What carries it out in a folder, which is emptied.
    pub fn command(&self, folder: &Path) -> io::Result<Command> {
        let _ = fs::remove_dir_all(folder);
        let (attempt, out) = places(folder);
        fs::create_dir_all(&out)?;
        let request = attempt.join("request.json");
        fs::write(&request, self.request(&attempt, &out)?.to_string())?;
        let mut command = Command::new(&self.worker);
        command.args(["exec", "--request"]).arg(&request).current_dir(&attempt);
        command.env("OMP_NUM_THREADS", self.threads.to_string()).env("OMP_WAIT_POLICY", "passive");
        if std::env::var_os("GOMP_SPINCOUNT").is_none() {
            command.env("GOMP_SPINCOUNT", "1000");
        }
        Ok(command)
    }

    fn request(&self, attempt: &Path, out: &Path) -> io::Result<Value> {
        let described = Command::new(&self.worker).arg("describe").output()?;
        let described: Value = serde_json::from_slice(&described.stdout)?;
        let input = |(slot, kind, path): &(&str, &str, PathBuf)| {
            let input = json!({"path": path, "type": kind, "digest": "0".repeat(64), "stage": slot, "axes": {}});
            ((*slot).to_owned(), json!([input]))
        };
        let inputs: serde_json::Map<String, Value> = self.inputs.iter().map(input).collect();
        Ok(json!({
            "protocol": described["protocol"], "kind": self.kind, "version": described["kinds"][self.kind],
            "stage": self.kind, "params": self.params, "inputs": inputs, "attempt": attempt, "out": out,
            "base": attempt, "threads": self.threads,
        }))
    }
}

/// Where the attempt is, and its outputs.
fn places(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("attempt"), folder.join("attempt/out"))
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
