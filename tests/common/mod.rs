//! A project in a temporary folder, and the program run on it in an environment of its own.
#![allow(dead_code, reason = "each test binary uses its part")]

mod ended;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub use ended::Ended;

/// A copy of the fixtures with a store of its own.
pub struct Project {
    dir: TempDir,
}

impl Project {
    /// A project with the tiny model and pipeline.
    pub fn tiny() -> Self {
        let project = Self { dir: tempfile::tempdir().unwrap() };
        copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"), project.path());
        project
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    /// Replaces a text that must be there.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.file(name)).unwrap();
        assert!(text.contains(from), "{name} does not hold {from}");
        self.write(name, &text.replace(from, to));
    }

    /// The program, ready to be started.
    pub fn command(&self, args: &[&str]) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_neftpipe"));
        let workers = program.parent().unwrap();
        for name in ["neftpipe-stage", "neftpipe-stage-torch"] {
            assert!(workers.join(name).is_file(), "{name} is not built: run the tests with `cargo xtask test`");
        }
        let mut command = Command::new(program);
        command.args(args).current_dir(self.path()).env_clear().env("HOME", self.path()).stdin(Stdio::null());
        for name in ["PATH", "LD_LIBRARY_PATH"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command
    }

    /// Runs the program to its end.
    pub fn neftpipe(&self, args: &[&str]) -> Ended {
        self.command(args).output().unwrap().into()
    }

    /// Starts the program and lets it go on.
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs the pipeline, which must succeed, and tells which instances were carried out.
    pub fn run(&self) -> Vec<String> {
        let ended = self.neftpipe(&["run", "tiny.yaml", "--json"]).exits(0);
        let executed = ended
            .events()
            .into_iter()
            .filter(|event| event["event"] == "stage_finished" && event["outcome"]["state"] == "executed");
        let executed: Vec<String> = executed.map(|event| event["stage"].as_str().unwrap().to_owned()).collect();
        let last = ended.json();
        assert_eq!((&last["event"], &last["outcome"]), (&"run_finished".into(), &"succeeded".into()));
        assert_eq!(last["executed"], executed.len());
        executed
    }

    /// The plan: each instance's state and reasons.
    pub fn plan(&self) -> BTreeMap<String, (String, Vec<Value>)> {
        let plan = self.neftpipe(&["plan", "tiny.yaml", "--json"]).exits(0).json();
        let stages = plan["stages"].as_array().unwrap().iter().map(|stage| {
            let reasons = stage["reasons"].as_array().unwrap().clone();
            (stage["id"].as_str().unwrap().to_owned(), (stage["state"].as_str().unwrap().to_owned(), reasons))
        });
        stages.collect()
    }

    /// Digest of every output of the newest run, by instance and output.
    pub fn digests(&self) -> BTreeMap<String, String> {
        let run = self.neftpipe(&["show", "--json"]).exits(0).json();
        let mut digests = BTreeMap::new();
        for (id, _) in run["stages"].as_object().unwrap() {
            let shown = self.neftpipe(&["show", id, "--json"]).exits(0).json();
            digests.insert(id.clone(), shown["artifact"]["digest"].as_str().unwrap().to_owned());
        }
        digests
    }
}

/// Looks again and again until there is something to see.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
