//! Results go to another store and come back from it.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::Project;
use serde_json::json;

const PIPELINE: &str = r#"version: 1
name: shared
stages:
  words:
    matrix: { params.n: [1, 2] }
    command: { run: "echo {params.n} >> TRACE; echo word {params.n} > {out}/w.txt", params: { n: 0 } }
  all:
    needs: { words: "words[*]" }
    command: { run: "echo all >> TRACE; for d in {in.words}; do cat $d/w.txt; done > {out}/all.txt" }
"#;

/// A project that writes down, outside every store, what is carried out.
fn project(trace: &Path) -> Project {
    let project = Project::tiny();
    project.write("shared.yaml", &PIPELINE.replace("TRACE", trace.to_str().unwrap()));
    project
}

fn executed(trace: &Path) -> usize {
    fs::read_to_string(trace).map_or(0, |text| text.lines().count())
}

fn blobs(store: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(store.join("blobs")).sort_by_file_name().into_iter().map(Result::unwrap);
    files.filter(|item| item.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn what_one_machine_pushed_another_finds() {
    let dir = tempfile::tempdir().unwrap();
    let (trace, remote) = (dir.path().join("trace"), dir.path().join("remote"));
    let url = format!("file:{}", remote.display());
    let maker = project(&trace);
    maker.neftpipe(&["run", "shared.yaml"]).exits(0);
    assert_eq!(executed(&trace), 3);
    let pushed = maker.neftpipe(&["push", "--remote", &url, "--json"]).exits(0).json();
    assert_eq!((pushed["copied"].as_array().unwrap().len(), &pushed["known"]), (3, &json!(0)));
    let again = maker.neftpipe(&["push", "--remote", &url, "--json"]).exits(0).json();
    assert_eq!((&again["copied"], &again["known"], &again["bytes"]), (&json!([]), &json!(3), &json!(0)));

    let taker = project(&trace);
    let pulled = taker.neftpipe(&["pull", "--remote", &url, "words[params.n=2]", "--json"]).exits(0).json();
    assert_eq!(pulled["copied"][0]["stage"], "words[params.n=2]");
    taker.neftpipe(&["run", "shared.yaml"]).exits(0);
    assert_eq!(executed(&trace), 5, "one of three was there");

    let other = project(&trace);
    other.neftpipe(&["pull", "--remote", &url]).exits(0);
    let run = other.neftpipe(&["run", "shared.yaml", "--json"]).exits(0).json();
    assert_eq!((&run["executed"], &run["cached"], executed(&trace)), (&json!(0), &json!(3), 5));
    other.neftpipe(&["verify"]).exits(0);
}

#[test]
fn what_is_damaged_there_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (trace, remote) = (dir.path().join("trace"), dir.path().join("remote"));
    let url = remote.to_str().unwrap();
    let maker = project(&trace);
    maker.neftpipe(&["run", "shared.yaml", "words[params.n=1]"]).exits(0);
    maker.neftpipe(&["push", "--remote", url]).exits(0);
    let blob = blobs(&remote).remove(0);
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&blob, "ward 1\n").unwrap();

    let taker = project(&trace);
    let pulled = taker.neftpipe(&["pull", "--remote", url, "--json"]).exits(0).json();
    assert_eq!((&pulled["copied"], &pulled["incomplete"]), (&json!([]), &json!(["words[params.n=1]"])));
    assert!(blobs(&taker.file("cache")).is_empty());

    // Pushed once more, it is whole again.
    maker.neftpipe(&["push", "--remote", url]).exits(0);
    let pulled = taker.neftpipe(&["pull", "--remote", url, "--json"]).exits(0).json();
    assert_eq!(pulled["copied"][0]["bytes"], 7);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let project = project(&dir.path().join("trace"));
    project.neftpipe(&["run", "shared.yaml", "words[params.n=1]"]).exits(0);
    let here = dir.path().join("remote");
    let here = here.to_str().unwrap();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["push"], 2, "NEFTPIPE_REMOTE"),
        (&["push", "--remote", "s3://bucket/x"], 2, "a remote is a folder"),
        (&["pull", "--remote", here], 3, "there is no store in"),
        (&["push", "--remote", here, "wards"], 2, "no result of wards"),
        (&["push", "--remote", here, "words+"], 2, "what depends on a result"),
    ];
    for (args, code, words) in cases {
        let ended = project.neftpipe(args).exits(code);
        assert!(ended.stderr.contains(words), "{args:?}: {}", ended.stderr);
    }
}
