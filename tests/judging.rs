//! Judges that cost money, through the program: what a plan tells of them, what a run may spend, and what is kept.
#![allow(clippy::unwrap_used)]

#[path = "../stages/basic/tests/endpoint/chat.rs"]
#[allow(dead_code)]
mod chat;
mod common;

use std::process::Output;
use std::time::Duration;

use chat::{Chat, Reply};
use common::{Project, wait_for};
use serde_json::{Value, json};

const KEY: &str = "sk-never-to-be-found-42";
const PROMPT: &str = "<|im_start|>user\n{instruction}\nfirst: {output_1}\nsecond: {output_2}\n<|im_end|>";
const PIPELINE: &str = r#"
version: 1
name: judged
stages:
  answers: { download: { from: "file:answers.json", as: answers } }
  others: { download: { from: "file:others.json", as: answers } }
  reference: { download: { from: "file:reference.json", as: answers } }
  prompt: { download: { from: "file:judge.txt", as: files } }
  verdict:
    needs: { answers: answers, reference: reference, annotators: prompt }
    judge: &judge
      annotator: custom
      custom: { prompt: judge.txt, parser: { logprob: { first: m, second: M } } }
      endpoint: { base_url: "http://unset", model: gpt-4-1106-preview, key_env: JUDGE_KEY, prices: { input: 1e4, output: 1e4 } }
      metrics: [length]
  second:
    needs: { answers: others, reference: reference, annotators: prompt }
    judge: *judge
"#;

#[test]
fn a_budget_wants_prices_before_anything_runs() {
    let project = Project::tiny();
    project.write("judged.yaml", &PIPELINE.replace(", prices: { input: 1e4, output: 1e4 }", ""));
    let refused = project.neftpipe(&["run", "judged.yaml", "--max-cost-usd", "1"]).exits(2);
    assert!(refused.stderr.contains("verdict has no `endpoint.prices`"), "{}", refused.stderr);
}

fn project(chat: &Chat) -> Project {
    let project = Project::tiny();
    let answers = |generator: &str, text: &str| {
        let row = |index: usize| json!({"instruction": format!("prompt {index}"), "output": format!("{text} {index}"), "generator": generator});
        (0..4).map(row).collect::<Value>().to_string()
    };
    project.write("answers.json", &answers("m", "good"));
    project.write("others.json", &answers("n", "good and long"));
    project.write("reference.json", &answers("base", "bad"));
    project.write("judge.txt", PROMPT);
    project.write("judged.yaml", &PIPELINE.replace("http://unset", chat.base_url()));
    project
}

fn prefers_good(asked: &Value, _: usize) -> Reply {
    match asked["messages"][0]["content"].as_str().unwrap().contains("first: good") {
        true => Reply::labels(-0.1, -2.3),
        false => Reply::labels(-2.3, -0.1),
    }
}

fn with_key(project: &Project, args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = project.command(args).env("JUDGE_KEY", KEY).output().unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

fn judging(project: &Project, stage: &str) -> Value {
    let plan = project.neftpipe(&["plan", "judged.yaml", "--json"]).exits(0).json();
    plan["stages"].as_array().unwrap().iter().find(|node| node["id"] == stage).unwrap()["judging"].clone()
}

#[test]
fn a_run_spends_no_more_than_it_may_and_a_plan_counts_what_is_left() {
    let chat = Chat::start(prefers_good);
    let project = project(&chat);
    assert_eq!(judging(&project, "verdict")["comparisons"], Value::Null, "the answers are yet to be brought");
    project.neftpipe(&["run", "judged.yaml", "answers", "others", "reference", "prompt"]).exits(0);
    let told = judging(&project, "verdict");
    assert_eq!((&told["comparisons"], &told["paid"]), (&json!(4), &json!(0)));
    let most = told["most_usd"].as_f64().unwrap();
    assert!(most > 4.04, "{most}: four answers will be paid with $1.01 each");

    let (code, said) = with_key(&project, &["run", "judged.yaml", "--max-cost-usd", "5.5", "--jobs", "1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the run's cap is reached: paid 1 of 4, kept") && chat.asked().len() == 5, "{said}");
    assert!(said.contains("comparisons will be asked of gpt-4-1106-preview"), "{said}");

    let plan = project.neftpipe(&["plan", "judged.yaml"]).exits(0);
    assert!(plan.stdout.contains("3 comparisons to ask, 1 paid for before; at most $"), "{}", plan.stdout);
    // What a cap leaves is the most that is told: $1.01 of the stage's $3 is paid, and the run's may be less than both.
    let cap = ("metrics: [length]", "metrics: [length]\n      max_cost_usd: 3");
    project.edit("judged.yaml", cap.0, cap.1);
    let told = judging(&project, "second");
    assert!((told["most_usd"].as_f64().unwrap() - 1.99).abs() < 1e-9, "{told}");
    assert!(told["uncapped_usd"].as_f64().unwrap() > 1.99, "{told}");
    let plan = project.neftpipe(&["plan", "judged.yaml"]).exits(0);
    assert!(plan.stdout.contains("at most $1.99 by `max_cost_usd`, where they could come to $"), "{}", plan.stdout);
    let plan = project.neftpipe(&["plan", "judged.yaml", "--max-cost-usd", "1.5", "--json"]).exits(0).json();
    assert_eq!(plan["most_usd"], json!(1.5));
    let plan = project.neftpipe(&["plan", "judged.yaml", "--max-cost-usd", "1.5"]).exits(0);
    assert!(
        plan.stdout.contains("; at most $1.50 by `--max-cost-usd`, where they could come to $1.99"),
        "{}",
        plan.stdout
    );
    project.edit("judged.yaml", cap.1, cap.0);
    let (code, _) = with_key(&project, &["run", "judged.yaml", "--max-cost-usd", "5.5"]);
    assert_eq!((code, chat.asked().len()), (Some(0), 8));
    assert!(chat.authorizations().iter().all(|header| *header == format!("Bearer {KEY}")));

    // Another measure, another cap and another place of the service ask nobody anew; neither does one changed answer but once.
    project.edit("judged.yaml", "metrics: [length]", "metrics: [length, repetition]");
    assert_eq!((with_key(&project, &["run", "judged.yaml"]).0, chat.asked().len()), (Some(0), 8));
    project.edit("answers.json", "good 2", "good two");
    assert_eq!((with_key(&project, &["run", "judged.yaml"]).0, chat.asked().len()), (Some(0), 9));
    let show = project.neftpipe(&["show", "verdict", "--json"]).exits(0).json();
    assert_eq!((&show["metrics"]["pairs_reused"], &show["metrics"]["n_wins"]), (&json!(3), &json!(4)));
    assert!((show["metrics"]["cost_usd"].as_f64().unwrap() - 1.01).abs() < 1e-9, "{show}");

    // Another model of the same name is asked anew, the first is not forgotten for it.
    let (name, marked) = ("model: gpt-4-1106-preview", "model: gpt-4-1106-preview, revision: fine-tuned");
    project.edit("judged.yaml", name, marked);
    assert_eq!((with_key(&project, &["run", "judged.yaml"]).0, chat.asked().len()), (Some(0), 17));
    project.edit("judged.yaml", marked, name);
    assert_eq!((with_key(&project, &["run", "judged.yaml"]).0, chat.asked().len()), (Some(0), 17));

    for entry in walkdir::WalkDir::new(project.path()).into_iter().map(Result::unwrap) {
        if entry.file_type().is_file() {
            let text = std::fs::read(entry.path()).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains(KEY), "{}", entry.path().display());
        }
    }
}

#[test]
fn judges_side_by_side_pay_for_one_calibration() {
    let chat = Chat::start(|asked, before| prefers_good(asked, before).slow(Duration::from_millis(50)));
    let project = project(&chat);
    let row = |index: usize| json!({"instruction": format!("known {index}"), "output_1": "bad", "output_2": format!("good {index}"), "preference": 2.0});
    project.write("people.json", &(0..6).map(row).collect::<Value>().to_string());
    let needs = "annotators: prompt }";
    project.edit("judged.yaml", needs, "annotators: prompt, calibrate: people }");
    project.edit("judged.yaml", "metrics: [length]", "metrics: [length]\n      calibrate: 6");
    project.edit(
        "judged.yaml",
        "stages:\n",
        "stages:\n  people: { download: { from: \"file:people.json\", as: files } }\n",
    );
    let (code, said) = with_key(&project, &["run", "judged.yaml", "--jobs", "4"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(chat.asked().len(), 4 + 4 + 6, "{said}");
}

#[test]
fn a_run_that_is_killed_pays_for_nothing_twice() {
    let chat = Chat::start(|asked, before| prefers_good(asked, before).slow(Duration::from_millis(150)));
    let project = project(&chat);
    project.edit("judged.yaml", "metrics: [length]", "metrics: [length]\n      concurrency: 1");
    project.edit("judged.yaml", ", key_env: JUDGE_KEY", "");
    for enough in [2, 5] {
        let mut run = project.start(&["run", "judged.yaml", "--jobs", "1"]);
        wait_for("answers", || (chat.asked().len() >= enough).then_some(()));
        run.kill().unwrap();
        run.wait().unwrap();
    }
    // What the killed workers still had under way is not counted twice either, once they have ended.
    project.neftpipe(&["run", "judged.yaml"]).exits(0);
    let asked = chat.asked().len();
    assert!((8..=10).contains(&asked), "{asked} requests for 8 comparisons, of which two were under way");
    project.neftpipe(&["run", "judged.yaml"]).exits(0);
    assert_eq!(chat.asked().len(), asked);
}

#[test]
fn models_that_are_gone_at_their_vendor_are_warned_of() {
    let chat = Chat::start(prefers_good);
    let project = project(&chat);
    let here = project.neftpipe(&["plan", "judged.yaml"]).exits(0);
    assert!(!here.stderr.contains("retired"), "elsewhere a name says nothing: {}", here.stderr);
    project.edit("judged.yaml", chat.base_url(), "https://api.openai.com/v1");
    let there = project.neftpipe(&["plan", "judged.yaml"]).exits(0);
    assert!(there.stderr.contains("gpt-4-1106-preview is retired"), "{}", there.stderr);
}

#[test]
fn judges_are_checked_before_anything_runs() {
    let chat = Chat::start(prefers_good);
    for (from, to, said) in [
        ("annotator: custom", "annotator: alpaca_eval", "is none of local, custom, weighted_alpaca_eval_gpt4_turbo"),
        (", prices: { input: 1e4, output: 1e4 }", "", "max_cost_usd"),
        ("prices: { input", "prices: { inptu", "dollars per million tokens"),
        ("{ prompt: judge.txt, parser", "{ prompt: judge.txt, max_tokens: 5, parsr", "parsr"),
    ] {
        let project = project(&chat);
        project.edit("judged.yaml", "metrics: [length]", "metrics: [length]\n      max_cost_usd: 3");
        project.edit("judged.yaml", from, to);
        let plan = project.neftpipe(&["plan", "judged.yaml"]).exits(2);
        assert!(plan.stderr.contains(said), "{said}: {}", plan.stderr);
    }
}
