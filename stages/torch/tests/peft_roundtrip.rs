//! Adapters in the hands of `peft` itself: `peft_roundtrip.py` loads one and compares logits.
//!
//! Needs a Python with peft (`NEFTPIPE_TEST_PYTHON`, else `python3`); without one each test says that it was skipped.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Exit statuses of `peft_roundtrip.py`.
const EQUAL: i32 = 0;
const DIFFERENT: i32 = 1;
const UNUSABLE: i32 = 2;
const NO_PEFT: i32 = 77;

fn tests_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn adapter_golden(name: &str) -> PathBuf {
    tests_dir().join("goldens/adapters").join(name)
}

/// Runs the comparison of `logits` (named `{prefix}logits.{i}`) with peft's own for `adapter` on `model`.
/// `None`, said aloud, where Python has no peft.
fn compare(model: &Path, adapter: &Path, input_ids: &Path, logits: &Path, prefix: &str) -> Option<Output> {
    let python = std::env::var_os("NEFTPIPE_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let ran = Command::new(&python)
        .arg(tests_dir().join("peft_roundtrip.py"))
        .args([model, adapter, input_ids, logits])
        .args(["--prefix", prefix])
        .env("OMP_NUM_THREADS", "1")
        .output();
    let compared = ran.ok().filter(|output| output.status.code() != Some(NO_PEFT));
    if compared.is_none() {
        println!("skipped: no peft in {}", Path::new(&python).display());
    }
    compared
}

fn compare_goldens(adapter: &str, logits_of: &str, prefix: &str) -> Option<Output> {
    let model = tests_dir().join("goldens/gqa_tied");
    let (adapter, golden) = (adapter_golden(adapter), adapter_golden(logits_of));
    let (ids, logits) = (golden.join("golden.json"), golden.join("golden.safetensors"));
    compare(&model, &adapter, &ids, &logits, prefix)
}

#[track_caller]
fn assert_status(output: &Output, status: i32) {
    assert_eq!(
        output.status.code(),
        Some(status),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn golden_logits_are_those_of_peft() {
    let Some(output) = compare_goldens("all", "all", "") else {
        return;
    };
    assert_status(&output, EQUAL);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["adapted_modules"], 14);
    assert!(line["adapter_effect"].as_f64().unwrap() > 0.1, "{line}");
}

#[test]
fn logits_of_another_adapter_are_told_apart() {
    let Some(output) = compare_goldens("all", "qv_rslora", "") else {
        return;
    };
    assert_status(&output, DIFFERENT);
}

#[test]
fn missing_logits_are_refused() {
    let Some(output) = compare_goldens("all", "all", "absent.") else {
        return;
    };
    assert_status(&output, UNUSABLE);
    assert!(String::from_utf8_lossy(&output.stderr).contains("absent.logits.0"));
}
