//! A worker program given a request as neftpipe gives it one, so that a stage can be measured again and again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Bench;

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
    /// Steps after which `train` saves what it goes on from.
    pub checkpoints: Vec<usize>,
    /// The attempt from whose checkpoints it goes on.
    pub known: Option<PathBuf>,
}

/// A stage that was carried out.
pub struct Ran {
    /// Where its outputs are.
    pub out: PathBuf,
    /// Its attempt, with its checkpoints.
    pub attempt: PathBuf,
    /// What it measured of itself.
    pub measured: Value,
    /// The figures of each step.
    pub steps: Vec<Value>,
    /// Seconds from the start of the program to its end.
    pub seconds: f64,
    /// What it said, each with the seconds since its start.
    events: Vec<(f64, Value)>,
}

impl Ran {
    /// Seconds from the start of the program to the beginning of its first step: all that it does before is loading.
    pub fn first_step_began(&self) -> f64 {
        self.before("metric").unwrap_or(f64::NAN)
    }

    /// Seconds from the start of the program to the end of its first step.
    pub fn first_step_ended(&self) -> f64 {
        self.at("metric").unwrap_or(f64::NAN)
    }

    /// Seconds of a step after the first.
    pub fn seconds_a_step(&self) -> f64 {
        let mut ends = self.events.iter().filter(is_step).map(|&(seconds, _)| seconds);
        let (first, last) = (ends.next().unwrap_or(f64::NAN), ends.next_back().unwrap_or(f64::NAN));
        (last - first) / (self.steps.len() as f64 - 1.0)
    }

    /// Seconds from the start of the program until its first checkpoint was begun, and was whole.
    pub fn saved(&self) -> (f64, f64) {
        (self.before("saved").unwrap_or(f64::NAN), self.at("saved").unwrap_or(f64::NAN))
    }

    fn at(&self, name: &str) -> Option<f64> {
        self.events.iter().find(|(_, event)| event["event"] == name).map(|&(seconds, _)| seconds)
    }

    /// When it said what it said just before.
    fn before(&self, name: &str) -> Option<f64> {
        let pair = self.events.windows(2).find(|pair| pair[1].1["event"] == name)?;
        Some(pair[0].0)
    }
}

/// Whether an event tells the figures of a step.
fn is_step((_, event): &&(f64, Value)) -> bool {
    event["event"] == "metric"
}

/// A stage of a worker among the binaries.
pub fn stage<'a>(
    bench: &Bench,
    program: &str,
    kind: &'a str,
    params: Value,
    inputs: Vec<(&'a str, &'a str, PathBuf)>,
    threads: usize,
) -> Stage<'a> {
    let worker = bench.binaries.join(program);
    Stage { worker, kind, params, inputs, threads, checkpoints: Vec::new(), known: None }
}

impl Stage<'_> {
    /// Carries it out in a folder, which is emptied first.
    pub fn run(&self, folder: &Path) -> io::Result<Ran> {
        let mut command = self.command(folder)?;
        let (attempt, out) = places(folder);
        let started = now();
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        let seconds = now() - started;
        let result: Value = serde_json::from_slice(&fs::read(attempt.join("result.json"))?)?;
        if !status.success() {
            return Err(io::Error::other(format!("{}: {result}", self.kind)));
        }
        let text = fs::read_to_string(attempt.join("events.jsonl"))?;
        let events = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let events =
            events.map(|event: Value| (number(&event, "time_ms") / 1000.0 - started, event)).collect::<Vec<_>>();
        let steps = events.iter().filter(is_step).map(|(_, event)| event["values"].clone());
        let (measured, steps) = (result["measured"].clone(), steps.collect());
        Ok(Ran { out, attempt, measured, steps, seconds, events })
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
            "base": attempt, "threads": self.threads, "checkpoints": self.checkpoints, "known": self.known,
        }))
    }
}

/// A figure by its name.
pub fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or(f64::NAN)
}

/// Where the attempt is, and its outputs.
fn places(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("attempt"), folder.join("attempt/out"))
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
