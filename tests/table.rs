//! Results as tables, and what differs between two.
#![allow(clippy::unwrap_used)]

mod common;

use common::Project;
use serde_json::Value;

fn rows(table: &Value) -> Vec<Value> {
    assert_eq!(table["version"], 1);
    table["rows"].as_array().unwrap().clone()
}

#[test]
fn one_row_an_instance_in_every_form() {
    let project = Project::tiny();
    project.run();

    let table = rows(&project.neftpipe(&["table", "train", "--json"]).exits(0).json());
    assert_eq!(table.len(), 2);
    assert_eq!((&table[1]["id"], &table[1]["kind"]), (&"train[variant=neft5]".into(), &"train".into()));
    assert_eq!(table[1]["axes"]["variant"], "neft5");
    assert_eq!((&table[0]["params"]["neft.alpha"], &table[1]["params"]["neft.alpha"]), (&0.into(), &5.into()));
    let shown = project.neftpipe(&["show", "train[variant=neft5]", "--json"]).exits(0).json();
    for figure in ["probe_heldout_loss", "steps", "seconds", "peak_memory_bytes"] {
        assert!(table[1]["metrics"][figure].is_number(), "{figure}");
        assert_eq!(table[1]["metrics"][figure], shown["metrics"][figure], "{figure}");
    }
    assert_eq!(table[1]["provenance"]["device"], "cpu");

    let csv = project.neftpipe(&["table", "train", "--format", "csv"]).exits(0).stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 3, "{csv}");
    for column in ["id,", "axes.variant", "params.neft.alpha", "params.steps", "metrics.probe_heldout_loss"] {
        assert!(lines[0].contains(column), "{}", lines[0]);
    }
    assert!(lines[2].starts_with("train[variant=neft5],"), "{csv}");

    let parquet = project.command(&["table", "train", "--format", "parquet"]).output().unwrap().stdout;
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));

    let text = project.neftpipe(&["table", "train"]).exits(0).stdout;
    let heading: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heading[..2], ["variant", "neft.alpha"], "{text}");
    let same = text.split_once("the same in all rows").unwrap().1;
    assert!(same.contains("steps 4") && !heading.contains(&"steps"), "{text}");
    assert!(!same.contains("weight_decay"), "defaults are not worth a line: {text}");
}

#[test]
fn a_row_keeps_what_it_is_a_row_of_beside_an_id_of_its_own() {
    let project = Project::tiny();
    let text = r#"
version: 1
stages:
  a:
    command:
      run: "cp answers.json {out}"
      files: [answers.json]
      outputs: { answers: { path: ., as: answers } }
"#;
    project.write("own.yaml", text);
    project
        .write("answers.json", r#"[{"id": "q7", "run": 3, "axes": "x and y", "instruction": "1+1", "output": "2"}]"#);
    project.neftpipe(&["run", "own.yaml"]).exits(0);
    let row = &rows(&project.neftpipe(&["table", "a", "--rows", "--json"]).exits(0).json())[0];
    assert_eq!((&row["id"], &row["row.id"]), (&"a".into(), &"q7".into()));
    assert!(row["run"].is_string() && row["row.run"] == 3 && row["axes"].is_object(), "{row}");
    assert_eq!((&row["row.axes"], &row["output"]), (&"x and y".into(), &"2".into()));
}

#[test]
fn long_forms_hold_steps_and_rows() {
    let project = Project::tiny();
    project.run();
    let steps = rows(&project.neftpipe(&["table", "train", "--steps", "--json"]).exits(0).json());
    assert_eq!(steps.len(), 8);
    assert_eq!((&steps[7]["axes"]["variant"], &steps[7]["step"]), (&"neft5".into(), &4.into()));
    assert!(steps[7]["loss"].is_f64() && steps[7]["learning_rate"].is_number(), "{}", steps[7]);

    let answers = rows(&project.neftpipe(&["table", "answers", "--rows", "--json"]).exits(0).json());
    let shown = project.neftpipe(&["show", "answers[variant=plain]", "--json"]).exits(0).json();
    assert_eq!(answers.len() as u64, 2 * shown["metrics"]["answers"].as_u64().unwrap());
    assert!(answers[0]["output"].is_string() && answers[0]["instruction"].is_string());
    let verdicts = rows(&project.neftpipe(&["table", "verdict", "--rows", "--json"]).exits(0).json());
    assert!(verdicts[0]["rouge_l"].is_number());
    rows(&project.neftpipe(&["table", "tokens.heldout", "--rows", "--json"]).exits(0).json());

    assert!(project.neftpipe(&["table", "answers", "--steps"]).exits(2).stderr.contains("training"));
    assert!(project.neftpipe(&["table", "train", "--rows"]).exits(2).stderr.contains("has rows"));
    project.neftpipe(&["table", "nothing"]).exits(2);
}

#[test]
fn a_table_says_that_it_mixes_devices() {
    let project = Project::tiny();
    project.run();
    let key = project.neftpipe(&["show", "train[variant=neft5]", "--json"]).exits(0).json()["key"].clone();
    let key = key.as_str().unwrap();
    let path = project.file(&format!("cache/entries/{}/{key}.json", &key[..2]));
    let text = std::fs::read_to_string(&path).unwrap();
    let record = text.lines().next().unwrap().replace(r#""device":"cpu""#, r#""device":"cuda:0""#);
    let seal = neftpipe_protocol::Digest::of(record.as_bytes());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, format!("{record}\n\"{seal}\"\n")).unwrap();

    let told = project.neftpipe(&["table", "train"]).exits(0);
    assert!(told.stderr.contains("differ in `device`: cpu, cuda:0"), "{}", told.stderr);
    assert!(told.stdout.lines().next().unwrap().contains("device"), "{}", told.stdout);
    let mixed = project.neftpipe(&["table", "train", "--json"]).exits(0).json()["mixed"].clone();
    assert_eq!(mixed, serde_json::json!({ "device": ["cpu", "cuda:0"] }));
    let one = project.neftpipe(&["table", "train[variant=plain]", "verdict", "--json"]).exits(0).json();
    assert_eq!(one["mixed"], serde_json::json!({}));
}

#[test]
fn two_instances_are_told_apart() {
    let project = Project::tiny();
    project.run();
    let diff = |a: &str, b: &str| project.neftpipe(&["diff", a, b, "--json"]).exits(0).json();

    let trained = diff("train[variant=plain]", "train[variant=neft5]");
    assert_eq!(trained["params"], serde_json::json!([{ "name": "neft.alpha", "a": 0, "b": 5, "difference": 5 }]));
    assert_eq!((&trained["inputs"], &trained["rows"]), (&serde_json::json!([]), &Value::Null));
    let figures = trained["metrics"].as_array().unwrap();
    let loss = figures.iter().find(|change| change["name"] == "final_train_loss").unwrap();
    let difference = loss["b"].as_f64().unwrap() - loss["a"].as_f64().unwrap();
    assert_eq!(loss["difference"].as_f64().unwrap(), difference);

    let answered = diff("answers[variant=plain]", "answers[variant=neft5]");
    assert_eq!(answered["params"], serde_json::json!([]));
    assert_eq!(answered["inputs"][0]["slot"], "adapter");
    assert_eq!(answered["inputs"][0]["b"][0]["stage"], "train[variant=neft5]");
    let answers = |id: &str| -> Vec<Value> {
        let text = project.neftpipe(&["show", id, "answers.json"]).exits(0).stdout;
        serde_json::from_str(&text).unwrap()
    };
    let (plain, neft) = (answers("answers[variant=plain]"), answers("answers[variant=neft5]"));
    let differing = plain.iter().zip(&neft).filter(|(a, b)| a["output"] != b["output"]).count();
    assert_eq!(answered["rows"]["compared"], plain.len());
    assert_eq!(answered["rows"]["different"].as_array().unwrap().len(), differing);

    let itself = project.neftpipe(&["diff", "train[variant=plain]", "train[variant=plain]"]).exits(0).stdout;
    assert!(itself.contains("the same, byte for byte") && !itself.contains("Parameters"), "{itself}");
    project.neftpipe(&["diff", "train", "train[variant=plain]"]).exits(2);
}

#[test]
fn two_runs_are_told_apart() {
    let project = Project::tiny();
    project.run();
    project.edit("tiny.yaml", "neft.alpha: 5", "neft.alpha: 7");
    project.edit("tiny.yaml", "  lengths:", "  sizes:");
    project.run();
    let runs = project.neftpipe(&["runs", "--json"]).exits(0).json();
    let run = |at: usize| runs["runs"][at]["run"].as_str().unwrap().to_owned();
    let diff = project.neftpipe(&["diff", &run(1), &run(0), "--json"]).exits(0).json();
    assert_eq!(diff["removed"], serde_json::json!(["lengths[variant=plain]", "lengths[variant=neft5]"]));
    assert_eq!(diff["added"], serde_json::json!(["sizes[variant=plain]", "sizes[variant=neft5]"]));
    let changed = &diff["changed"][0];
    assert_eq!(changed["id"], "train[variant=neft5]");
    let reason = serde_json::json!([{ "code": "param_changed", "path": "neft.alpha", "old": 5, "new": 7 }]);
    assert_eq!(changed["reasons"], reason);
    let text = project.neftpipe(&["diff", &run(1), &run(0)]).exits(0).stdout;
    assert!(text.contains("- lengths[variant=plain]") && text.contains("neft.alpha: 5 → 7"), "{text}");
    project.neftpipe(&["diff", &run(0), "report"]).exits(2);
}
