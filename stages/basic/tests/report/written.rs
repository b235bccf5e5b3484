//! Writes reports through the worker program.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::sweep::{self, Sweep};

/// A report that was written.
pub struct Written {
    /// The page.
    pub page: String,
    /// `report.json`.
    pub report: Value,
    /// What the worker says of it.
    pub result: Value,
    /// What the worker warned of.
    pub warnings: Vec<Value>,
    /// All files by their paths.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Runs the worker on an attempt's request; whether it succeeded, and its result.
pub fn exec(attempt: &Path) -> (bool, Value) {
    let request = attempt.join("request.json");
    let status = Command::new(env!("CARGO_BIN_EXE_neftpipe-stage"))
        .args(["exec", "--request"])
        .arg(&request)
        .current_dir(attempt)
        .output()
        .unwrap()
        .status;
    (status.success(), serde_json::from_slice(&fs::read(attempt.join("result.json")).unwrap()).unwrap())
}

/// The report of a sweep.
pub fn report(sweep: Sweep, params: &Value) -> Written {
    report_in(tempfile::tempdir().unwrap().path(), sweep, params)
}

/// The report of a sweep, all of it under a folder.
pub fn report_in(dir: &Path, sweep: Sweep, params: &Value) -> Written {
    let attempt = sweep::write(dir, sweep, params);
    let (succeeded, result) = exec(&attempt);
    assert!(succeeded, "{result}");
    let out = attempt.join("out/report");
    Written {
        page: fs::read_to_string(out.join("index.html")).unwrap(),
        report: serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap(),
        result,
        warnings: warnings(&attempt),
        files: files(&out),
    }
}

fn files(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries =
        walkdir::WalkDir::new(out).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    let name = |path: &Path| path.strip_prefix(out).unwrap().to_str().unwrap().to_owned();
    entries.map(|entry| (name(entry.path()), fs::read(entry.path()).unwrap())).collect()
}

/// What the report warned of.
pub fn warnings(attempt: &Path) -> Vec<Value> {
    let events = fs::read_to_string(attempt.join("events.jsonl")).unwrap();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event"] == "warning").collect()
}
