//! What a plan says it will take, and `run --confirm-over`.
#![allow(clippy::unwrap_used)]

mod common;

use common::Project;
use serde_json::Value;

const PIPELINE: &str = "\
version: 1
name: naps
stages:
  first:
    matrix: { params.n: [1, 2] }
    command: { run: \"sleep 0.2; echo {params.n} > {out}/n\", params: { n: 0 } }
  second:
    needs: { all: \"first[*]\" }
    command: { run: \"sleep 0.4; echo {in.all} > {out}/all\" }
";

fn project() -> Project {
    let project = Project::tiny();
    project.write("naps.yaml", PIPELINE);
    project
}

fn plan(project: &Project) -> Value {
    project.neftpipe(&["plan", "naps.yaml", "--json"]).exits(0).json()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn nothing_is_claimed_where_nothing_is_known() {
    let project = project();
    let plan = plan(&project);
    assert!(plan.get("estimate").is_none() && plan["stages"][0].get("estimate").is_none(), "{plan}");
    assert!(!project.neftpipe(&["plan", "naps.yaml"]).exits(0).stdout.contains("of work"));
}

#[test]
fn a_plan_adds_up_what_earlier_runs_took() {
    let project = project();
    project.neftpipe(&["run", "naps.yaml"]).exits(0);
    assert!(plan(&project).get("estimate").is_none(), "nothing is to be done");

    project.edit("naps.yaml", "echo {params.n}", "echo 0{params.n}");
    project.edit("naps.yaml", "params.n: [1, 2]", "params.n: [1, 2, 3]");
    let plan = plan(&project);
    let seconds: Vec<f64> =
        plan["stages"].as_array().unwrap().iter().map(|stage| number(&stage["estimate"]["seconds"])).collect();
    let [one, two, three, last] = seconds[..] else { panic!("{plan}") };
    let sums = &plan["estimate"];
    assert!((number(&sums["seconds"]) - (one + two + three + last)).abs() < 1e-9, "{sums}");
    assert!((number(&sums["critical_path_seconds"]) - (one.max(two).max(three) + last)).abs() < 1e-9, "{sums}");
    assert!(one >= 0.2 && last >= 0.4, "{seconds:?}");
    let guessed: Vec<bool> =
        plan["stages"].as_array().unwrap().iter().map(|stage| stage["estimate"]["guessed"] == true).collect();
    assert_eq!(guessed, [false, false, true, false], "the new instance is told by its neighbour");
    assert!(sums["bytes"].as_u64().unwrap() > 0 && sums["free_bytes"].as_u64().unwrap() > 0, "{sums}");
    let text = project.neftpipe(&["plan", "naps.yaml"]).exits(0).stdout;
    assert!(text.contains("≈") && text.contains("of work"), "{text}");
}

#[test]
fn a_killed_run_tells_too() {
    let project = project();
    project.neftpipe(&["run", "naps.yaml"]).exits(0);
    let runs = project.file("cache/runs");
    let run = runs.read_dir().unwrap().next().unwrap().unwrap().path().join("run.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&run).unwrap()).unwrap();
    record["outcome"] = Value::Null;
    for stage in record["stages"].as_object_mut().unwrap().values_mut() {
        (stage["key"], stage["outcome"], stage["seconds"]) = (Value::Null, Value::Null, Value::Null);
    }
    std::fs::write(&run, record.to_string()).unwrap();
    project.edit("naps.yaml", "echo {params.n}", "echo 0{params.n}");
    assert_eq!(plan(&project)["estimate"]["unknown"], 0);
}

#[test]
fn long_work_is_not_begun_unasked() {
    let project = project();
    project.neftpipe(&["run", "naps.yaml", "--confirm-over", "1s"]).exits(0);
    project.edit("naps.yaml", "echo {params.n}", "echo 0{params.n}");
    let refused = project.neftpipe(&["run", "naps.yaml", "--confirm-over", "100ms"]).exits(2);
    assert!(
        refused.stderr.contains("no terminal to ask at") && refused.stderr.contains("--confirm-over"),
        "{refused:?}"
    );
    assert_eq!(project.neftpipe(&["runs", "--json"]).exits(0).json()["runs"].as_array().unwrap().len(), 1);
    project.neftpipe(&["run", "naps.yaml", "--confirm-over", "1h"]).exits(0);
    project.neftpipe(&["run", "naps.yaml", "--confirm-over", "$0"]).exits(0);
    project.neftpipe(&["run", "naps.yaml", "--confirm-over", "$much"]).exits(2);
    project.neftpipe(&["run", "naps.yaml", "--confirm-over", "soon"]).exits(2);
}
