//! What the worker makes of an NVIDIA driver, with a driver library of a few lines in the place of the real one.
//! Needs the C compiler that building the worker needs anyway.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::process::Command;

use neftpipe_stage_torch::cuda_library;

/// Not a test by itself: what the tests below start in a process that finds their driver.
#[test]
#[ignore = "started by the tests of this file"]
fn print_state() {
    println!("state: {:?}", cuda_library::load());
}

/// The state as a process sees it whose `cuInit` returns `init`, with a driver that serves CUDA 12.2.
fn state_with_driver(init: i32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("driver.c");
    let program = format!(
        "int cuInit(unsigned flags) {{ return {init}; }}\n\
         int cuDriverGetVersion(int *version) {{ *version = 12020; return 0; }}\n\
         int cuGetErrorString(int code, const char **text) {{ *text = \"unknown error\"; return 0; }}\n"
    );
    std::fs::write(&source, program).unwrap();
    let library = folder.path().join("libcuda.so.1");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let compiled = Command::new(compiler).args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(compiled.success());
    state_in(folder.path())
}

fn state_in(library_path: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "print_state", "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", library_path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("state: ").nth(1).unwrap_or_else(|| panic!("no state in: {text}")).lines().next().unwrap().to_owned()
}

#[test]
fn a_driver_without_a_device_is_no_gpu() {
    assert_eq!(state_with_driver(100), "NoGpu");
}

#[test]
fn a_driver_that_does_not_start_is_unusable_and_says_so() {
    let state = state_with_driver(999);
    assert!(state.starts_with("Unusable"), "{state}");
    for part in ["unknown error (CUDA error 999)", "nvidia-smi", "device: cpu"] {
        assert!(state.contains(part), "{part} is missing in: {state}");
    }
}

/// With the CPU libtorch there is nothing to load; with the CUDA one, this driver is too old or cannot serve it.
#[test]
fn a_gpu_that_libtorch_cannot_use_is_never_passed_over() {
    let state = state_with_driver(0);
    assert!(state == "NotInstalled" || state.starts_with("Unusable"), "{state}");
}
