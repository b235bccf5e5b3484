//! `pipelines/published.yaml`: the published comparison, its files served by this process.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../stages/basic/tests/download/server.rs"]
#[allow(dead_code)]
mod server;

use std::path::Path;

use common::Project;
use serde_json::{Value, json};
use server::{Answer, Server};

const PROMPTS: [&str; 6] = ["one", "two", "three", "four", "five", "six"];

/// What a model says: the tuned one is longer.
fn output(model: &str, index: usize) -> String {
    match model {
        "alpaca-7b" => "short ".repeat(1 + index % 3),
        _ => "a longer answer ".repeat(2 + index),
    }
}

fn outputs(model: &str) -> Value {
    let row = |(index, prompt): (usize, &&str)| json!({"instruction": prompt, "output": output(model, index), "generator": model, "dataset": "test"});
    PROMPTS.iter().enumerate().map(row).collect()
}

/// The short model wins one of the six, the long one four; one judgement could not be read.
fn annotations(model: &str) -> Value {
    let preference = |index: usize| match (model, index) {
        ("alpaca-7b", 0) => json!(2),
        ("alpaca-7b", 1) => json!(0),
        ("alpaca-7b", _) | (_, 4) => json!(1),
        (_, 5) => Value::Null,
        _ => json!(2.0),
    };
    let row = |(index, prompt): (usize, &&str)| {
        json!({"instruction": prompt, "output_1": "the reference", "generator_1": "text_davinci_003", "output_2": output(model, index),
            "generator_2": model, "annotator": "alpaca_eval_gpt4", "preference": preference(index)})
    };
    PROMPTS.iter().enumerate().map(row).collect()
}

fn respond(path: &str) -> Answer {
    let Some(rest) = path.strip_prefix("/results/") else { return Answer::new(404, "") };
    match rest.split_once('/') {
        Some((model, "model_outputs.json")) => Answer::new(200, outputs(model).to_string()),
        Some((model, "alpaca_eval_gpt4/annotations.json")) => Answer::new(200, annotations(model).to_string()),
        _ => Answer::new(404, ""),
    }
}

fn df_gamed() -> String {
    let head = "preference,index,std_delta_len,instruction_difficulty,not_gamed_baseline,model\n".to_owned();
    let row = |index: usize| {
        format!("0.{},{index},{}.5,{}.25,False,concise\n", index + 1, index as i64 - 3, index as i64 - 2)
    };
    (0..PROMPTS.len()).fold(head, |text, index| text + &row(index))
}

#[test]
fn the_published_gain_is_shown_raw_and_at_equal_length() {
    let project = Project::tiny();
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/published.yaml");
    std::fs::copy(pipeline, project.file("published.yaml")).unwrap();
    std::fs::create_dir(project.file("tables")).unwrap();
    project.write("tables/df_gamed.csv", &df_gamed());
    let server = Server::start(|asked| respond(&asked.path));
    let repository = format!("params.repository={}", server.url);
    let run = ["run", "published.yaml", "--set", &repository, "--set", "params.tables=file:tables"];
    project.neftpipe(&run).exits(0);
    project.neftpipe(&["run", "published.yaml", "--set", run[3], "--set", run[5], "--offline"]).exits(0);

    for (model, win_rate, n_total) in [("alpaca-7b", 25.0, 6), ("alpaca-7b-neft", 80.0, 5)] {
        let instance = format!("verdict[model={model}]");
        let verdict = project.neftpipe(&["show", &instance, "--json"]).exits(0).json();
        let metrics = &verdict["metrics"];
        assert_eq!((&metrics["win_rate"], &metrics["n_total"]), (&json!(win_rate), &json!(n_total)), "{model}");
        // The bare file has the same line.
        project.write("bare.json", &annotations(model).to_string());
        let bare = ["show", "bare.json", "--length-control", "tables/df_gamed.csv", "--json"];
        let bare = project.neftpipe(&bare).exits(0).json();
        let rate = &bare["metrics"]["length_controlled_winrate"];
        assert!(rate.is_f64() && metrics["length_controlled_winrate"] == *rate, "{model}: {metrics}");
        // Another C tells another rate, and may be chosen as alpaca_eval does.
        let with = |c: &str| {
            let bare = ["show", "bare.json", "--length-control", "tables/df_gamed.csv", "--C", c, "--json"];
            project.neftpipe(&bare).exits(0).json()["metrics"]["length_controlled_winrate"].clone()
        };
        assert!(with("2.7826") == *rate && with("0.3") != *rate && with("cv").is_f64(), "{model}");
    }
    project.neftpipe(&["show", "bare.json", "--length-control", "tables/df_gamed.csv", "--C", "-1"]).exits(2);
    project.neftpipe(&["show", "bare.json", "--C", "cv"]).exits(2);
    let report = project.neftpipe(&["show", "report", "report.json"]).exits(0);
    assert!(report.stdout.contains("\"length_controlled_winrate\""), "{}", report.stdout);
    // Of the prompts that the judge could read for both.
    let remains = "alpaca-7b-neft against alpaca-7b: +50.0 [10.0, 90.0] points by win rate, +36.2 [";
    assert!(report.stdout.contains(remains), "{}", report.stdout);
}
