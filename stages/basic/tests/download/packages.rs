//! `pypi:…` with a pip that is played by a shell script: it puts a wheel where `--dest` says.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;

use neftpipe_protocol::ArtifactType;
use neftpipe_protocol::FailureClass::{Data, Environment};
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::worker::{Download, sha256};

fn wheel(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn corpus() -> Vec<u8> {
    wheel(&[
        ("corpus/en/a.yml", "conversations:\n- - q\n  - a\n"),
        ("corpus/de/a.yml", "x"),
        ("corpus/__init__.py", ""),
    ])
}

/// A download whose `python3` is this script.
fn with_python(params: Value, script: &str) -> Download {
    let download = Download::new(params);
    let bin = download.base().join("bin");
    fs::create_dir(&bin).unwrap();
    let python = bin.join("python3");
    fs::write(&python, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    download.env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
}

fn with_wheel(params: Value, wheel: &[u8]) -> Download {
    const SCRIPT: &str = r#"
echo "$@" > "$(dirname "$0")/arguments"
while [ "$1" != --dest ]; do shift; done
cp "$(dirname "$0")/../corpus-1.0-py3-none-any.whl" "$2"
"#;
    with_python(params, SCRIPT).file("corpus-1.0-py3-none-any.whl", wheel)
}

fn params() -> Value {
    json!({"from": "pypi:corpus==1.0", "select": "corpus/en/*.yml", "format": "pairs"})
}

#[test]
fn a_package_s_files_are_selected_inside_its_wheel() {
    let done = with_wheel(params(), &corpus()).run();
    assert_eq!(done.artifact(), ArtifactType::Dataset);
    assert_eq!(done.lines("rows.jsonl"), [json!({"instruction": "q", "output": "a"})]);
    let file = json!({
        "path": "corpus-1.0-py3-none-any.whl", "bytes": corpus().len(), "sha256": sha256(&corpus()),
    });
    assert_eq!(done.resolved(), json!({"source": "pypi:corpus==1.0", "files": [file]}));
}

#[test]
fn pip_runs_no_code_of_packages_and_obeys_offline() {
    let download = with_wheel(params(), &corpus()).offline();
    let arguments = download.base().join("bin/arguments");
    let done = download.run();
    done.success();
    let text = fs::read_to_string(&arguments).unwrap();
    for argument in ["-m pip download", "--no-deps", "--only-binary=:all:", "--no-index", "corpus==1.0"] {
        assert!(text.contains(argument), "{text}");
    }
}

#[test]
fn a_pinned_wheel_that_changed_is_refused() {
    let pin = with_wheel(params(), &corpus()).run().resolved();
    let other = wheel(&[("corpus/en/a.yml", "conversations:\n- - q\n  - b\n")]);
    with_wheel(params(), &other).resolved(&pin).run().fails(Data, &["corpus-1.0", "expected"]);
    with_wheel(params(), &corpus()).resolved(&pin).run().success();
}

#[test]
fn wheels_that_are_damaged_or_escape_are_refused() {
    with_wheel(params(), b"not a zip").run().fails(Data, &["is not a wheel"]);
    let escaping = wheel(&[("../x.yml", "x")]);
    let all = json!({"from": "pypi:corpus==1.0", "as": "files"});
    with_wheel(all, &escaping).run().fails(Data, &["../x.yml", "leads out"]);
}

#[test]
fn a_missing_pip_says_so() {
    let download = Download::new(params());
    let empty = download.base().to_str().unwrap().to_owned();
    download.env("PATH", empty).run().fails(Environment, &["python3", "pip"]);
    let script = "echo \"$0: No module named pip\" >&2; exit 1";
    with_python(params(), script).run().fails(Environment, &["no pip"]);
    let script = "echo 'ERROR: No matching distribution found for corpus==1.0' >&2; exit 1";
    with_python(params(), script).run().fails(Environment, &["corpus==1.0", "No matching distribution"]);
}
