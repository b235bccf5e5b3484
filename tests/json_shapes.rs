//! `docs/json.md` names every key that the program prints, and no other.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Ended, Project};
use serde_json::Value;

/// What stands for any name.
const ANY: &str = "…";

fn page() -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md")).unwrap()
}

/// The examples below the headings that begin so.
fn examples(heading: &str) -> Vec<Value> {
    let page = page();
    let section = page.split("\n## ").find(|section| section.starts_with(heading));
    let block = section.unwrap_or_else(|| panic!("no section `{heading}`")).split("```json\n").nth(1).unwrap();
    let text = block.split("```").next().unwrap();
    serde_json::Deserializer::from_str(text).into_iter().map(Result::unwrap).collect()
}

/// Holds what was printed to an example; says where it differs.
fn hold(example: &Value, printed: &Value, path: &str) {
    match (example, printed) {
        (_, Value::Null) | (Value::Null, _) => {}
        (Value::Object(example), Value::Object(printed)) => {
            if let Some(inner) = example.get(ANY) {
                return printed.values().for_each(|value| hold_where_told(inner, value, &format!("{path}.{ANY}")));
            }
            for (name, value) in printed {
                let told = example.get(name).or_else(|| example.get(&format!("{name}?")));
                let told = told.unwrap_or_else(|| panic!("{path} has a key `{name}` that docs/json.md does not name"));
                hold(told, value, &format!("{path}.{name}"));
            }
            for name in example.keys().filter(|name| !name.ends_with('?')) {
                assert!(printed.contains_key(name), "docs/json.md gives {path} a key `{name}` that is not printed");
            }
        }
        (Value::Array(example), Value::Array(printed)) => {
            if let Some(item) = example.first() {
                printed.iter().for_each(|value| hold(item, value, &format!("{path}[]")));
            }
        }
        (example, printed) => {
            let same = std::mem::discriminant(example) == std::mem::discriminant(printed);
            assert!(same, "{path} is {printed}, docs/json.md has {example}");
        }
    }
}

/// Under free names plain values may be of any type; objects and lists are held to the example.
fn hold_where_told(example: &Value, printed: &Value, path: &str) {
    if example.is_object() || example.is_array() {
        hold(example, printed, path);
    }
}

fn holds(heading: &str, ended: Ended) {
    hold(&examples(heading)[0], &ended.json(), heading);
}

#[test]
fn the_page_names_what_is_printed() {
    let project = Project::tiny();
    let events = project.neftpipe(&["run", "tiny.yaml", "--json"]).exits(0).events();
    let told = examples("`run FILE`");
    for event in &events {
        let told = told.iter().find(|told| told["event"] == event["event"]);
        hold(told.unwrap_or_else(|| panic!("docs/json.md has no such event: {event}")), event, "run");
    }
    let json = |args: &[&str]| project.neftpipe(&[args, &["--json"]].concat()).exits(0);
    project.edit("tiny.yaml", "neft.alpha: 5", "neft.alpha: 7");
    holds("`plan FILE`", json(&["plan", "tiny.yaml"]));
    holds("`plan FILE`", json(&["graph", "tiny.yaml"]));
    holds("`explain FILE", json(&["explain", "tiny.yaml", "tokens"]));
    holds("`explain FILE", json(&["explain", "tiny.yaml", "train[variant=plain]", "data", "report"]));
    holds("`show INSTANCE`", json(&["show", "train[variant=neft5]"]));
    holds("`show INSTANCE`", json(&["show", "report"]));
    let report = project.neftpipe(&["show", "report", "report.json"]).exits(0).stdout;
    hold(&examples("The report's")[0], &serde_json::from_str(&report).unwrap(), "report.json");
    holds("`table REF…`", json(&["table", "train", "tokens"]));
    holds("`table --steps", json(&["table", "--steps", "train"]));
    holds("`table --rows", json(&["table", "--rows", "answers"]));
    holds("`diff INSTANCE", json(&["diff", "train[variant=plain]", "train[variant=neft5]"]));
    holds("`diff INSTANCE", json(&["diff", "answers[variant=plain]", "answers[variant=neft5]"]));
    holds("`path REF`", json(&["path", "report"]));
    holds("`export REF", json(&["export", "report", "copy"]));
    holds("`logs INSTANCE`", json(&["logs", "tokens"]));
    holds("`init`", json(&["init", "new"]));
    holds("`doctor`", json(&["doctor"]));
    holds("`doctor --gpu`", json(&["doctor", "--gpu", "--size", "tiny"]));
    holds("`push`", json(&["push", "--remote", "other"]));
    holds("`push`", json(&["pull", "--remote", "other"]));

    project.run();
    let runs = json(&["runs"]);
    let run = |at: usize| runs.json()["runs"][at]["run"].as_str().unwrap().to_owned();
    let (newest, oldest) = (run(0), run(1));
    holds("`runs`", json(&["runs"]));
    holds("`show RUN`", json(&["show", &newest]));
    holds("`diff RUN", json(&["diff", &oldest, &newest]));
    holds("`cancel RUN`", json(&["cancel", &newest]));
    holds("`gc`", json(&["gc", "--dry-run"]));
    holds("`verify`", json(&["verify"]));

    project.edit("tiny.yaml", "steps: \"${", "stpes: \"${");
    holds("A pipeline file", project.neftpipe(&["plan", "tiny.yaml", "--json"]).exits(2));
    project.write("broken.yaml", "version: 1\nstages:\n  a: { download: { from: \"file:nothing\", as: files } }\n");
    holds("`plan FILE`", json(&["plan", "broken.yaml"]));
}
