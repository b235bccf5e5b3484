//! A stop at every step by which something is written below the project: before it, after it, in the middle of it, for
//! want of space, for an I/O error. The same command finishes each time.
//!
//! The steps are the calls of the program itself, found and stopped by a library that is loaded into it (`shim.c`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::bench::{Artifacts, Bench, Ended};
use crate::{each_of, share_of, told};

/// What goes wrong at a step.
const WAYS: [&str; 5] = ["before", "after", "torn", "full", "error"];

pub const PIPELINE: &str = r#"version: 1
name: publishing
stages:
  prompts: { download: { from: "https://localhost/prompts", as: prompts } }
  sources:
    command:
      run: "cp tokens.json {out}; mkdir {out}/m; echo weights > {out}/m/weights; cp tokens.json {out}/m/more"
      files: [tokens.json]
      outputs: { tokens: { path: tokens.json, as: tokens }, model: { path: m, as: model } }
  train:
    needs: { model: sources.model, tokens: sources.tokens }
    train: { steps: 4, lora: { rank: 2 }, checkpoint_every: 2 }
  answers:
    needs: { model: sources.model, adapter: train, prompts: prompts }
    generate: { max_new_tokens: 4 }
"#;

#[test]
fn a_stop_at_any_step_of_publishing_loses_nothing() {
    let shim = Shim::build();
    let reference = Bench::new(PIPELINE);
    let log = reference.file("log");
    let artifacts = shim.run(&reference, 0, "", &log).exits(0).artifacts();
    assert_eq!(artifacts.len(), 4);
    let steps = fs::read_to_string(&log).unwrap();
    let kinds: BTreeSet<&str> = steps.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    for kind in ["open", "write", "fsync", "rename", "mkdir", "unlink", "chmod", "lock"] {
        assert!(kinds.contains(kind), "no `{kind}` is seen: does the program still go through libc?\n{steps}");
    }
    let steps = steps.lines().count();

    let all: Vec<(usize, &str)> = (1..=steps).flat_map(|step| WAYS.map(|way| (step, way))).collect();
    // Neighbours are all the ways at one step: a stride that shares no factor with their number takes each in turn.
    let every = if share_of(all.len()) == all.len() { 1 } else { 11 };
    let chosen: Vec<_> = all.into_iter().step_by(every).collect();
    let stopped = each_of(&chosen, |(step, way)| stop(&shim, &artifacts, *step, way));
    told(
        "stops at a step of writing (killed before, after, in the middle; no space; I/O error)",
        chosen.len(),
        &format!(
            "the same command finished with the same bytes, stores whole; {steps} steps, {stopped} stops ended the run"
        ),
    );
}

/// One stop, and the same command again. Says whether the stop ended the run.
fn stop(shim: &Shim, artifacts: &Artifacts, step: usize, way: &str) -> bool {
    let bench = Bench::new(PIPELINE);
    let log = bench.file("log");
    let ended = shim.run(&bench, step, way, &log);
    let what = fs::read_to_string(&log).unwrap();
    let what = what.lines().nth(step - 1).unwrap_or("after the end");
    println!("{way} {what}: {:?}", ended.code);
    let failed = ended.code != Some(0);
    match way {
        "full" => said(ended.exits_with(&[0, 3]), "No space left"),
        "error" => said(ended.exits_with(&[0, 3]), "Input/output error"),
        _ => assert!(ended.code.is_none_or(|code| code == 0), "{what}: {ended:?}"),
    }
    bench.goes_on_to(artifacts);
    failed
}

/// A run that failed says why.
fn said(ended: Ended, why: &str) {
    if ended.code != Some(0) {
        ended.says(why);
    }
}

/// The library, built.
struct Shim {
    folder: TempDir,
}

impl Shim {
    fn build() -> Self {
        let shim = Self { folder: tempfile::tempdir().unwrap() };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(shim.library()).arg(source).arg("-ldl");
        assert!(compiler.status().expect("a C compiler, `cc`").success());
        shim
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("shim.so")
    }

    /// Runs the pipeline, with a stop at this step.
    fn run(&self, bench: &Bench, step: usize, way: &str, log: &Path) -> Ended {
        let mut command = bench.command(&["run", "p.yaml", "--json", "--jobs", "1"]);
        command.env("LD_PRELOAD", self.library()).env("SHIM_PROGRAM", "neftpipe").env("SHIM_ROOT", bench.path());
        command.env("SHIM_LOG", log).env("SHIM_AT", step.to_string()).env("SHIM_HOW", way);
        Ended::from(command.output().unwrap())
    }
}
