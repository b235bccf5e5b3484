//! A value that is given by the name of an environment variable is found nowhere that outlives its use.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::bench::{Bench, Ended};
use crate::{processes, told};

const SECRET: &str = "s3cr3t-0f-the-command-93d1c7";
const VISIBLE: &str = "v1sible-value-of-a-variable-5a0b";
const TOKEN: &str = "hf_t0ken-of-the-hub-77e2d4";

/// One command uses its variables, one prints them all, one fails with them on its lips; a download has a token.
const PIPELINE: &str = r#"version: 1
name: secrets
stages:
  prompts: { download: { from: "https://localhost/prompts", as: prompts } }
  uses:
    command:
      run: "test {env.SECRET} = $SECRET && test -n {env.VISIBLE} && sleep 0.3 && echo done > {out}/x"
      env: [VISIBLE]
      secrets: [SECRET]
  prints: { command: { run: "env; set -x; echo {env.SECRET}; echo $SECRET >&2; echo x > {out}/x", secrets: [SECRET] } }
  fails: { command: { run: "echo no access with $SECRET >&2; exit 1", secrets: [SECRET] } }
"#;

#[test]
fn values_given_by_name_are_found_nowhere() {
    let bench = Bench::new(PIPELINE);
    let mut looks = 0;
    looks += run_watched(&bench, &["run", "p.yaml", "--json"]);
    assert!(looks > 3, "the run was seen at work");
    looks += run_watched(&bench, &["run", "p.yaml"]);
    let told_of = [
        ["plan", "p.yaml", "--json"].as_slice(),
        &["explain", "p.yaml", "uses"],
        &["show", "--json"],
        &["show", "uses", "--json"],
        &["logs", "prints"],
        &["logs", "fails"],
        &["graph", "p.yaml"],
        &["runs", "--json"],
        &["doctor", "--json"],
    ];
    for args in told_of {
        holds_none(&with_values(&bench, args), &format!("{args:?}"));
        looks += 1;
    }
    looks += search(bench.path());
    told(
        "looks for values given by environment name (store, journal, logs, output, process list)",
        looks,
        "found in none, though commands print them and fail with them",
    );
}

fn with_values(bench: &Bench, args: &[&str]) -> Ended {
    let mut command = bench.command(args);
    Ended::from(command.env("SECRET", SECRET).env("VISIBLE", VISIBLE).env("HF_TOKEN", TOKEN).output().unwrap())
}

/// Runs the program and looks at the command lines of its processes all the while. Says how often.
fn run_watched(bench: &Bench, args: &[&str]) -> usize {
    let mut command = bench.command(args);
    command.env("SECRET", SECRET).env("VISIBLE", VISIBLE).env("HF_TOKEN", TOKEN);
    let mut program = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut looks = 0;
    while program.try_wait().unwrap().is_none() {
        for pid in processes::of(bench.path()) {
            let line = processes::line(pid);
            assert!(value_in(line.as_bytes()).is_none(), "in the process list: {line}");
            looks += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = Ended::from(program.wait_with_output().unwrap()).exits(1);
    holds_none(&ended.says("exit status 1"), "the run");
    looks
}

fn holds_none(ended: &Ended, what: &str) {
    for text in [&ended.stdout, &ended.stderr] {
        assert!(value_in(text.as_bytes()).is_none(), "{what} tells a value:\n{text}");
    }
}

fn value_in(bytes: &[u8]) -> Option<&'static str> {
    let is_in = |value: &str| bytes.windows(value.len()).any(|window| window == value.as_bytes());
    [SECRET, VISIBLE, TOKEN].into_iter().find(|value| is_in(value))
}

/// Looks into every file below a folder. Says into how many.
fn search(folder: &Path) -> usize {
    let files = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap).filter(|item| item.file_type().is_file());
    files
        .map(|item| {
            let found = value_in(&fs::read(item.path()).unwrap());
            assert!(found.is_none(), "{found:?} is in {}", item.path().display());
        })
        .count()
}
