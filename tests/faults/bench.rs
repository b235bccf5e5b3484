//! A project in a temporary folder: its pipeline, its store, and the program run on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub use crate::ended::Ended;
use crate::{processes, worker};

/// A pipeline of a download, commands, training and generation: `parts` + 2 × `seeds` + 4 instances.
pub fn pipeline(parts: usize, seeds: usize) -> String {
    let list = |count: usize| (0..count).map(|index| index.to_string()).collect::<Vec<_>>().join(", ");
    PIPELINE.replace("PARTS", &list(parts)).replace("SEEDS", &list(seeds))
}

/// Every stage notes in a file outside of the store that it was carried out. Parts have a child at work, and leave a daemon behind.
const PIPELINE: &str = r#"version: 1
name: faults
stages:
  prompts: { download: { from: "https://localhost/prompts", as: prompts } }
  model:
    command: { run: "echo model >> $HOME/executed; echo weights > {out}/weights", outputs: { model: { path: ., as: model } } }
  tokens:
    command: { run: "echo tokens >> $HOME/executed; cp tokens.json {out}", files: [tokens.json], outputs: { tokens: { path: ., as: tokens } } }
  part:
    needs: { model: model }
    matrix: { params.part: [PARTS] }
    command:
      run: |
        set -e # a child that is killed is not overlooked
        echo 'part[params.part='{params.part}']' >> $HOME/executed
        setsid sleep 60 & sleep 0.02 & child=$!; mkdir {out}/deep; seq {params.part} 2000 > {out}/deep/one; echo {params.part} > {out}/two
        cp {in.model}/weights {out}/three; : > {out}/empty; wait $child
      params: { part: 0 }
  train:
    needs: { model: model, tokens: tokens }
    matrix: { seed: [SEEDS] }
    train: { steps: 6, lora: { rank: 2 }, checkpoint_every: 2 }
  answers:
    needs: { model: model, adapter: train, prompts: prompts }
    generate: { max_new_tokens: 4 }
  all:
    needs: { parts: "part[*]", answers: "answers[*]" }
    command:
      run: |
        set -e
        echo all >> $HOME/executed
        for i in {in.parts}; do cat $i/two; done > {out}/t; for i in {in.answers}; do cat $i/*; done > {out}/a
"#;

const TOKENS: &str = r#"{"template":"alpaca","date_string":"","max_length_tokens":8,"eos_token_id":0,
"train":{"rows":8,"groups":8,"tokens":64,"trained_tokens":32,"truncated_rows":0,"longest_tokens":8},
"heldout":{"rows":0,"groups":0,"tokens":0,"trained_tokens":0,"truncated_rows":0,"longest_tokens":0},"dropped":{}}"#;

/// A project folder. Nothing that was started in it outlives it.
pub struct Bench {
    dir: TempDir,
}

impl Bench {
    /// A project with this pipeline as `p.yaml`.
    pub fn new(pipeline: &str) -> Self {
        let bench = Self { dir: tempfile::Builder::new().prefix("neftpipe-faults-").tempdir().unwrap() };
        bench.write("p.yaml", pipeline);
        bench.write("tokens.json", TOKENS);
        worker::install(&bench.file("workers"));
        bench
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.file("cache")
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The program, ready to be started in an environment of its own. HOME makes its processes known by the folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_neftpipe"));
        command.args(args).current_dir(self.path()).env_clear().stdin(Stdio::null());
        command.env("HOME", self.path()).env("NEFTPIPE_WORKERS", self.file("workers"));
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
    }

    /// Runs the program to its end.
    pub fn neftpipe(&self, args: &[&str]) -> Ended {
        Ended::from(self.command(args).output().unwrap())
    }

    /// Runs the pipeline.
    pub fn run(&self) -> Ended {
        self.neftpipe(&["run", "p.yaml", "--json"])
    }

    /// The same command once more must finish: with these artifacts, in a store that is whole, and nobody left behind.
    pub fn goes_on_to(&self, artifacts: &Artifacts) {
        let ended = self.run().exits(0);
        assert_eq!(ended.artifacts(), *artifacts, "other bytes than without a fault");
        self.is_whole();
    }

    /// The instances that were carried out, by their own words, as often as they were, sorted.
    pub fn executed(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file("executed")).unwrap_or_default();
        let mut stages: Vec<String> = text.lines().map(str::to_owned).collect();
        stages.sort();
        stages
    }

    /// The store is whole and nobody is left behind.
    pub fn is_whole(&self) {
        self.neftpipe(&["verify"]).exits(0);
        processes::none_is_left(self.path());
    }
}

/// Digests of the outputs of every instance.
pub type Artifacts = BTreeMap<String, Value>;

impl Ended {
    /// Checks that this was said, on stderr or in the events.
    pub fn says(self, text: &str) -> Self {
        let is_said = self.stderr.contains(text) || self.stdout.contains(text);
        assert!(is_said, "`{text}` is not said:\n{}\n{}", self.stdout, self.stderr);
        self
    }

    /// What came out of a run with `--json`.
    pub fn artifacts(&self) -> Artifacts {
        let finished =
            self.events().into_iter().filter(|event| event["event"] == "stage_finished" && event["key"] != Value::Null);
        finished.map(|event| (event["stage"].as_str().unwrap().to_owned(), event["outputs"].clone())).collect()
    }
}
