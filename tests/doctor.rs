//! `doctor --gpu` on the CPU, and with workers that compute something else.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{Ended, Project};
use serde_json::{Value, json};

#[test]
fn without_a_gpu_the_cpu_is_checked_and_the_report_says_so() {
    let project = Project::tiny();
    let report = project.neftpipe(&["doctor", "--gpu", "--size", "tiny", "--json"]).exits(0).json();
    assert_eq!((&report["passed"], &report["device"]), (&json!(true), &json!("cpu")));
    let [f32, bf16] = report["formats"].as_array().unwrap().as_slice() else { panic!("{report}") };
    assert_eq!(
        (&f32["precision"], &f32["steps"], &f32["largest_difference"]),
        (&json!("f32"), &json!(20), &json!(0.0))
    );
    let rounding = bf16["largest_difference"].as_f64().unwrap();
    assert!(rounding > 0.0 && rounding < 0.01, "bf16 is close to f32, and not f32: {rounding}");
    assert!([f32, bf16].iter().all(|it| it["repeats"] == true));
    let size = &report["sizes"][0];
    assert!(size["tokens_per_second"].as_f64().unwrap() > 0.0, "{size}");
    assert!(size["peak_memory_bytes"].as_u64().unwrap() > 50 << 20, "{size}");

    let text = project.neftpipe(&["doctor", "--gpu"]).exits(0).stdout;
    assert!(text.contains("there is no GPU here") && text.contains("`--size 1b`"), "{text}");
    assert!(!project.file("cache").exists(), "looking leaves nothing");
    project.neftpipe(&["doctor", "--size", "1b"]).exits(2);
}

/// `doctor --gpu` with a worker that computes as told: losses on the CPU, then those of each run in f32 and in bf16, and a
/// number that stands for the adapter's bytes. What is asked of it besides has no answer.
fn doctor(cpu: f64, f32: [(f64, u8); 2], bf16: [(f64, u8); 2]) -> Ended {
    let project = Project::tiny();
    let workers = project.file("workers");
    fs::create_dir(&workers).unwrap();
    let runs = [("cpu", cpu, 0)].into_iter().chain(f32.iter().chain(&bf16).map(|&(loss, byte)| ("cuda:0", loss, byte)));
    for (at, (device, loss, byte)) in runs.enumerate() {
        let answer = json!({"status": "answered", "answer": {"device": device, "losses": vec![loss; 20],
            "adapter": format!("{byte:02x}").repeat(32), "tokens_per_second": 1.0, "peak_memory_bytes": 1}});
        write(&workers.join(format!("{at}.json")), &answer);
    }
    let refusal = json!({"status": "failed", "class": "environment", "message": "CUDA out of memory", "hint": null});
    write(&workers.join("5.json"), &refusal);
    let worker = workers.join("neftpipe-stage-torch");
    let script = "#!/bin/sh\ncd \"${0%/*}\"\nn=$(cat n 2>/dev/null || echo 0)\ncp $n.json \"$3\"\n[ $n = 5 ] || echo $((n + 1)) >n\n";
    fs::write(&worker, script).unwrap();
    fs::set_permissions(&worker, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = project.command(&["doctor", "--gpu", "--json"]);
    command.env("NEFTPIPE_WORKERS", &workers).output().unwrap().into()
}

fn write(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_device_that_computes_something_else_is_told_and_ends_with_3() {
    let good = [(2.0, 1), (2.0, 1)];
    let passes = |ended: Ended| {
        let report = ended.exits(3).json();
        report["formats"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["repeats"] == true && share(it) <= allowed(it))
            .collect()
    };
    fn share(it: &Value) -> f64 {
        it["largest_difference"].as_f64().unwrap()
    }
    fn allowed(it: &Value) -> f64 {
        it["allowed_difference"].as_f64().unwrap()
    }
    let all: Vec<bool> = passes(doctor(2.0, good, good));
    assert_eq!(all, [true, true], "only the sizes fail");
    let all: Vec<bool> = passes(doctor(2.0, [(2.01, 1), (2.01, 1)], [(2.01, 1), (2.01, 1)]));
    assert_eq!(all, [false, true], "half a percent is too much for f32 alone");
    let all: Vec<bool> = passes(doctor(2.0, good, [(2.0, 1), (2.0, 2)]));
    assert_eq!(all, [true, false], "other bytes");
    let all: Vec<bool> = passes(doctor(2.0, good, [(2.0, 1), (2.01, 1)]));
    assert_eq!(all, [true, false], "other losses");
}

#[test]
fn a_size_that_does_not_fit_is_told_with_its_reason_and_the_next_is_tried() {
    let good = [(2.0, 1), (2.0, 1)];
    let report = doctor(2.0, good, good).exits(3).json();
    let sizes: Vec<(&Value, &Value)> =
        report["sizes"].as_array().unwrap().iter().map(|it| (&it["size"], &it["error"])).collect();
    let reason = json!("CUDA out of memory");
    assert_eq!(sizes, [(&json!("1b"), &reason), (&json!("3b"), &reason)]);
}
