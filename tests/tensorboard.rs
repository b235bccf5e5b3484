//! The event file of an exported training run, read by TensorBoard itself where Python has it (`NEFTPIPE_TEST_PYTHON`, else
//! `python3`); without it the test says that it was skipped.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::process::Command;

use common::Project;
use serde_json::{Value, json};

const READ: &str = r#"
import json, sys
try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    sys.exit(77)
events = EventAccumulator(sys.argv[1])
events.Reload()
tags = events.Tags()
scalars = {tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in tags["scalars"]}
histograms = {tag: [[event.step, event.histogram_value.num] for event in events.Histograms(tag)] for tag in tags["histograms"]}
json.dump({"scalars": scalars, "histograms": histograms}, sys.stdout)
"#;

#[test]
fn tensorboard_reads_the_course_of_training() {
    let project = Project::tiny();
    let python = std::env::var_os("NEFTPIPE_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    project.neftpipe(&["run", "tiny.yaml", "train[variant=neft5]"]).exits(0);
    project.neftpipe(&["export", "train[variant=neft5]", "adapter"]).exits(0);
    let ran = Command::new(&python).args(["-c", READ]).arg(project.file("adapter")).output();
    let Some(ran) = ran.ok().filter(|ran| ran.status.code() != Some(77)) else {
        println!("skipped: no tensorboard in {}", std::path::Path::new(&python).display());
        return;
    };
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let read: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let steps = std::fs::read_to_string(project.file("adapter/steps.jsonl")).unwrap();
    let steps: Vec<Value> = steps.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (tag, field) in [
        ("train/loss", "loss"),
        ("train/gradient_norm", "gradient_norm"),
        ("train/learning_rate", "learning_rate"),
        ("train/tokens", "tokens"),
        ("neft/alpha", "alpha"),
        ("neft/noise_magnitude", "noise_magnitude"),
    ] {
        let point = |step: &Value| json!([step["step"], f64::from(step[field].as_f64().unwrap() as f32)]);
        let points: Vec<Value> = steps.iter().map(point).collect();
        assert_eq!(read["scalars"][tag], json!(points), "{tag}");
    }
    let metrics: Value = serde_json::from_slice(&std::fs::read(project.file("adapter/metrics.json")).unwrap()).unwrap();
    let probe = f64::from(metrics["probe_train_loss"].as_f64().unwrap() as f32);
    assert_eq!(read["scalars"]["probe/train_loss"], json!([[steps.len(), probe]]));
    let rows = metrics["probe_train_losses"].as_array().unwrap().len() as f64;
    assert_eq!(read["histograms"]["rows/train_loss"], json!([[steps.len(), rows]]));
}
