//! `judge` over a chat service: a server of this process that speaks the protocol, and misbehaves.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "endpoint/chat.rs"]
mod chat;
mod support;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use neftpipe_protocol::Kind;
use serde_json::{Value, json};

use chat::{Chat, Reply};
use support::{Attempt, Workplace, read_json, read_lines};

const PROMPT: &str = "<|im_start|>system
Be fair.
<|im_end|>
<|im_start|>user
{instruction}
first: {output_1}
second: {output_2}
<|im_end|>";

/// Configs in the form of the package, with a prompt of our own.
const WEIGHTED: &str = r#"
weighted_alpaca_eval_gpt4_turbo:
  prompt_template: "alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"
  fn_completions: "openai_completions"
  completions_kwargs:
    model_name: "gpt-4-1106-preview"
    max_tokens: 1
    temperature: 1 # a comment
    logprobs: true
    top_logprobs: 5
  fn_completion_parser: "logprob_parser"
  completion_parser_kwargs:
    numerator_token: "m"
    denominator_tokens: ["m", "M"]
    is_binarize: false
  completion_key: "completions_all"
  batch_size: 1
"#;
const CALLED: &str = r#"
alpaca_eval_gpt4_turbo_fn:
  prompt_template: "alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"
  fn_completions: "openai_completions"
  completions_kwargs:
    model_name: "gpt-4-1106-preview"
    max_tokens: 100
    temperature: 0
    tool_choice: { type: function, function: { name: "make_partial_leaderboard" } }
    tools:
      - type: function
        function: { name: "make_partial_leaderboard", strict: true, parameters: { type: "object", required: [ "ordered_models" ] } }
  fn_completion_parser: "pipeline_meta_parser"
  completion_parser_kwargs:
    parsers_to_kwargs:
      json_parser: { annotation_key: "ordered_models" }
      ranking_parser: { model_1_name: "m" }
  batch_size: 1
"#;

struct Case {
    place: Workplace,
    answers: PathBuf,
    reference: PathBuf,
    annotators: PathBuf,
}

impl Case {
    /// So many prompts with different answers, and one more with equal ones.
    fn new(prompts: usize) -> Self {
        let place = Workplace::new();
        let answers = |generator: &str, text: &str| {
            let row = |index: usize| json!({"instruction": format!("prompt {index}"), "output": format!("{text} {index}"), "generator": generator});
            let mut rows: Vec<Value> = (0..prompts).map(row).collect();
            rows.push(json!({"instruction": "the same", "output": "equal", "generator": generator}));
            place.file(generator, "answers.json", &json!(rows).to_string())
        };
        let (answers, reference) = (answers("m", "good"), answers("base", "bad"));
        let configs = "pkg/evaluators_configs";
        for (name, text) in [("weighted_alpaca_eval_gpt4_turbo", WEIGHTED), ("alpaca_eval_gpt4_turbo_fn", CALLED)] {
            place.file(&format!("{configs}/{name}"), "configs.yaml", text);
        }
        place.file(&format!("{configs}/alpaca_eval_clf_gpt4_turbo"), "alpaca_eval_clf.txt", PROMPT);
        place.file("pkg", "own.txt", PROMPT);
        let annotators = place.path("pkg");
        Self { place, answers, reference, annotators }
    }

    fn inputs(&self) -> [(&str, &str, &Path); 3] {
        [
            ("answers", "answers", &self.answers),
            ("reference", "answers", &self.reference),
            ("annotators", "files", &self.annotators),
        ]
    }

    fn run(&self, name: &str, params: &Value, more: Value) -> Attempt {
        self.place.run_with(name, Kind::Judge, params.clone(), &self.inputs(), more)
    }
}

/// The parameters of a weighted judge on this server.
fn weighted(chat: &Chat) -> Value {
    json!({
        "annotator": "weighted_alpaca_eval_gpt4_turbo", "metrics": ["length"], "concurrency": 2,
        "endpoint": {"base_url": chat.base_url(), "model": "some-judge", "prices": {"input": 1e4, "output": 1e4}, "timeout_seconds": 2},
    })
}

fn rows(attempt: &Attempt) -> Vec<Value> {
    match attempt.file("rows.jsonl").exists() {
        true => read_lines(&attempt.file("rows.jsonl")),
        false => Vec::new(),
    }
}

/// Prefers the good answer, by its place, nine to one.
fn prefers_good(asked: &Value) -> Reply {
    let prompt = asked["messages"][1]["content"].as_str().unwrap();
    let (m, other) = if prompt.contains("first: good") { (-0.1, -2.3) } else { (-2.3, -0.1) };
    Reply::labels(m, other)
}

#[test]
fn a_public_annotator_asks_each_comparison_once_and_reads_log_probabilities() {
    let case = Case::new(6);
    let chat = Chat::start(|asked, _| prefers_good(asked));
    let attempt = case.run("a", &weighted(&chat), json!({})).succeeded();

    let asked = chat.asked();
    assert_eq!(asked.len(), 6);
    let first = &asked[0];
    for (name, value) in [
        ("model", json!("some-judge")),
        ("max_tokens", json!(1)),
        ("temperature", json!(1)),
        ("top_p", json!(1.0)),
        ("logprobs", json!(true)),
        ("top_logprobs", json!(5)),
    ] {
        assert_eq!(first[name], value, "{name}");
    }
    assert!(first.get("model_name").is_none());
    assert_eq!(first["messages"][0], json!({"role": "system", "content": "Be fair."}));
    let shown_first =
        asked.iter().filter(|body| body["messages"][1]["content"].as_str().unwrap().contains("first: good"));
    let switched = shown_first.count();
    assert!(switched > 0 && switched < 6, "{switched} of 6 are switched");

    let annotations: Vec<Value> = read_json(&attempt.out("verdict/annotations.json"));
    let likely = 1.0 / (1.0 + (-2.2_f64).exp());
    for row in &annotations[..6] {
        assert!((row["preference"].as_f64().unwrap() - 1.0 - likely).abs() < 1e-12, "{row}");
        assert_eq!(
            (&row["annotator"], row["output_1"].as_str().unwrap().starts_with("bad")),
            (&json!("weighted_alpaca_eval_gpt4_turbo"), true)
        );
        assert!(
            row["raw_completion"]["logprobs"]["content"].is_array() && row["raw_completion"]["total_tokens"] == 101.0,
            "{row}"
        );
    }
    assert_eq!((&annotations[6]["preference"], &annotations[6]["raw_completion"]), (&json!(1.5), &Value::Null));
    let verdict: Value = read_json(&attempt.out("verdict/verdict.json"));
    let comparison = &verdict["comparison"];
    assert_eq!(comparison["label"], "AlpacaEval 2 prompt, judge some-judge: not comparable with the leaderboard");
    assert_eq!(
        (&comparison["n_wins"], &comparison["n_draws"], &comparison["n_unread"]),
        (&json!(6), &json!(1), &json!(0))
    );
    let measured = &attempt.result["measured"];
    assert_eq!((&measured["pairs_judged"], &measured["prompt_tokens"]), (&json!(6), &json!(600)));
    assert!((measured["cost_usd"].as_f64().unwrap() - 6.06).abs() < 1e-9, "{measured}");
    assert_eq!(attempt.warnings(), ["judge_cost"]);

    // All is known: nobody is asked, and the files are the same.
    let known = json!({"known": attempt.file("")});
    let again = case.run("b", &weighted(&chat), known).succeeded();
    assert_eq!((chat.asked().len(), &again.result["measured"]["pairs_reused"]), (6, &json!(6)));
    for file in ["verdict.json", "annotations.json", "rows.jsonl"] {
        let read = |attempt: &Attempt| std::fs::read(attempt.out("verdict").join(file)).unwrap();
        assert!(read(&again) == read(&attempt), "{file}");
    }
}

/// To the byte, but for the order of keys: the same requests, the same preferences and the same line as alpaca_eval's own.
#[test]
fn the_public_annotators_ask_and_read_as_alpaca_eval_does() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/alpaca_eval");
    let golden: Value = read_json(&goldens.join("golden.json"));
    let place = Workplace::new();
    let side = |generator: &str, output: &str| {
        let row =
            |pair: &Value| json!({"instruction": pair["instruction"], "output": pair[output], "generator": generator});
        let rows: Vec<Value> = golden["pairs"].as_array().unwrap().iter().map(row).collect();
        place.file(generator, "answers.json", &json!(rows).to_string())
    };
    let (reference, answers) = (side("base", "output_1"), side("m", "output_2"));
    for (name, expected) in golden["annotators"].as_object().unwrap() {
        let known: Vec<(Value, Value)> = expected["asked"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["body"].clone(), one["choice"].clone()))
            .collect();
        let model = known[0].0["model"].clone();
        let count = known.len();
        let chat = Chat::start(move |asked, _| match known.iter().find(|(body, _)| body == asked) {
            Some((_, choice)) => Reply::choice(choice),
            None => Reply::status(400).body("{\"error\": {\"message\": \"alpaca_eval does not ask this\"}}"),
        });
        let params = json!({"annotator": name, "endpoint": {"base_url": chat.base_url(), "model": model}});
        let inputs: [(&str, &str, &Path); 3] =
            [("answers", "answers", &answers), ("reference", "answers", &reference), ("annotators", "files", &goldens)];
        let attempt = place.run(name, Kind::Judge, params, &inputs).succeeded();
        assert_eq!(chat.asked().len(), count, "{name}");
        let annotations: Vec<Value> = read_json(&attempt.out("verdict/annotations.json"));
        for (row, expected) in annotations.iter().zip(expected["preferences"].as_array().unwrap()) {
            let close = match (row["preference"].as_f64(), expected.as_f64()) {
                (Some(ours), Some(theirs)) => (ours - theirs).abs() < 1e-12,
                (ours, theirs) => ours == theirs,
            };
            assert!(close, "{name}: {row}, expected {expected}");
        }
        let verdict: Value = read_json(&attempt.out("verdict/verdict.json"));
        for (figure, expected) in expected["line"].as_object().unwrap() {
            let ours = verdict["comparison"][figure].as_f64().unwrap();
            assert!(
                (ours - expected.as_f64().unwrap()).abs() < 1e-9,
                "{name}: {figure} is {ours}, expected {expected}"
            );
        }
        assert_eq!(verdict["comparison"].get("label"), None, "it is the leaderboard's own judge");
    }
}

#[test]
fn function_calls_and_prompts_of_ones_own() {
    let case = Case::new(4);
    let chat = Chat::start(|asked, _| {
        let good_first = asked["messages"][1]["content"].as_str().unwrap().contains("first: good");
        let better = if good_first { 1 } else { 2 };
        if asked.get("tools").is_some() {
            let order = json!({"ordered_models": [{"model": "m", "rank": better}, {"model": "M", "rank": 3 - better}]});
            Reply::call("make_partial_leaderboard", &order.to_string())
        } else {
            Reply::text(if good_first { "I like Output (a)." } else { "output (b)" })
        }
    });
    let endpoint = json!({"base_url": chat.base_url(), "model": "some-judge"});
    let called = json!({"annotator": "alpaca_eval_gpt4_turbo_fn", "endpoint": endpoint});
    let attempt = case.run("called", &called, json!({})).succeeded();
    assert_eq!(attempt.result["metrics"]["n_wins"], 4);
    assert_eq!(chat.asked()[0]["tool_choice"]["function"]["name"], "make_partial_leaderboard");

    let parser = json!({"regex": {"first": "(?i)output \\(a\\)", "second": "(?i)output \\(b\\)"}});
    let custom = json!({"annotator": "custom", "custom": {"prompt": "own.txt", "parser": parser, "max_tokens": 9}, "endpoint": endpoint});
    let attempt = case.run("custom", &custom, json!({})).succeeded();
    let annotations: Vec<Value> = read_json(&attempt.out("verdict/annotations.json"));
    assert_eq!((&attempt.result["metrics"]["n_wins"], &annotations[0]["annotator"]), (&json!(4), &json!("custom")));
    assert_eq!(chat.asked().last().unwrap()["max_tokens"], 9);

    let missing =
        json!({"annotator": "custom", "custom": {"prompt": "none.txt", "parser": parser}, "endpoint": endpoint});
    assert!(case.run("missing", &missing, json!({})).failure().1.contains("none.txt"));
    let unknown = json!({"annotator": "alpaca_eval_gpt4", "endpoint": endpoint});
    let unknown = case.run("unknown", &unknown, json!({}));
    assert!(unknown.failure().1.contains("alpaca_eval_gpt4/configs.yaml"), "{}", unknown.result);
}

#[test]
fn what_passes_is_tried_again_and_what_the_server_asks_for_is_heeded() {
    let case = Case::new(6);
    let chat = Chat::start(|asked, before| match (asked["messages"][1]["content"].as_str().unwrap(), before) {
        (prompt, 0) if prompt.contains("prompt 0") => {
            Reply::status(429).header("Retry-After", "1").body("{\"error\": {\"message\": \"slow down\"}}")
        }
        (prompt, 0) if prompt.contains("prompt 1") => Reply::status(500).body("<html>oops</html>"),
        (prompt, 0) if prompt.contains("prompt 2") => prefers_good(asked).cut(40),
        (prompt, 0) if prompt.contains("prompt 3") => Reply::status(200).body("{\"choices\": [{\"mess"),
        (prompt, 0) if prompt.contains("prompt 4") => prefers_good(asked).slow(Duration::from_secs(5)),
        (prompt, _) if prompt.contains("prompt 5") => prefers_good(asked).slow(Duration::from_millis(300)),
        _ => prefers_good(asked),
    });
    let began = Instant::now();
    let attempt = case.run("a", &weighted(&chat), json!({})).succeeded();
    assert!(began.elapsed() >= Duration::from_secs(1), "Retry-After was not heeded");
    assert_eq!((&attempt.result["metrics"]["n_wins"], chat.asked().len()), (&json!(6), 11));
    assert_eq!(attempt.warnings(), ["judge_cost", "judge_retried"]);
    // Nothing was kept twice.
    let ids: HashSet<String> = rows(&attempt).iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((ids.len(), rows(&attempt).len()), (6, 6));
}

#[test]
fn answers_without_log_probabilities_count_as_unread_and_too_many_end_the_asking() {
    let some = Case::new(4);
    let chat = Chat::start(|asked, _| match asked["messages"][1]["content"].as_str().unwrap().contains("prompt 2") {
        true => Reply::text("m"),
        false => prefers_good(asked),
    });
    let attempt = some.run("some", &weighted(&chat), json!({})).succeeded();
    assert_eq!(
        (&attempt.result["metrics"]["n_total"], attempt.warnings()),
        (&json!(4), vec!["judge_cost", "unread_judgements"])
    );

    let all = Case::new(40);
    let chat = Chat::start(|_, _| Reply::text("m"));
    let attempt = all.run("all", &weighted(&chat), json!({}));
    let (class, message) = attempt.failure();
    assert!(class == "data" && message.starts_with("none of the first 10 answers can be read"), "{message}");
    assert!(attempt.result["hint"].as_str().unwrap().contains("logprobs") && chat.asked().len() < 15);
}

#[test]
fn the_cap_stops_cleanly_and_a_higher_one_goes_on() {
    let case = Case::new(8);
    let chat = Chat::start(|asked, _| prefers_good(asked));
    let mut params = weighted(&chat);
    params["max_cost_usd"] = json!(3.5);
    let attempt = case.run("a", &params, json!({}));
    let (class, message) = attempt.failure();
    assert!(class == "data" && message.ends_with("paid 3 of 8, kept for $3.0300"), "{message}");
    assert_eq!((chat.asked().len(), rows(&attempt).len()), (3, 3));

    // The same cap again asks nobody; earlier work counts.
    let known = json!({"known": attempt.file("")});
    let again = case.run("b", &params, known.clone());
    assert!(again.failure().1.contains("paid 3 of 8, kept"));
    assert_eq!(chat.asked().len(), 3);

    params["max_cost_usd"] = json!(50);
    let done = case.run("c", &params, known).succeeded();
    assert_eq!((chat.asked().len(), &done.result["measured"]["pairs_reused"]), (8, &json!(3)));

    let ledger = case.place.path("spent");
    let budget = json!({"budget": {"limit_usd": 2.5, "ledger": ledger}});
    let run = case.run("d", &weighted(&chat), budget);
    assert!(
        run.failure().1.starts_with("--max-cost-usd: the run's cap is reached: paid 2 of 8, kept"),
        "{}",
        run.result
    );
    assert_eq!(std::fs::read_to_string(&ledger).unwrap().trim().parse::<u64>().unwrap(), 2_020_000);
}

#[test]
fn a_judge_that_is_killed_asks_again_only_for_what_was_under_way() {
    let case = Case::new(12);
    let chat = Chat::start(|asked, _| prefers_good(asked).slow(Duration::from_millis(60)));
    let mut params = weighted(&chat);
    params["concurrency"] = json!(1);
    let running = case.place.start("a", Kind::Judge, params.clone(), &case.inputs(), json!({}));
    let folder = running.kill_after("rows.jsonl", 3);
    let kept = std::fs::read_to_string(folder.join("rows.jsonl")).unwrap().matches('\n').count();
    let asked = chat.asked().len();
    assert!(kept >= 3 && asked <= kept + 1, "{kept} kept of {asked}");
    let done = case.run("b", &params, json!({"known": folder})).succeeded();
    assert_eq!(done.result["measured"]["pairs_reused"], kept);
    assert_eq!(chat.asked().len(), asked + 12 - kept);
}

#[test]
fn a_wish_to_stop_is_heeded_in_a_pause() {
    let case = Case::new(3);
    let chat = Chat::start(|asked, _| match asked["messages"][1]["content"].as_str().unwrap().contains("prompt 0") {
        true => prefers_good(asked),
        false => Reply::status(429).header("Retry-After", "500"),
    });
    let mut params = weighted(&chat);
    params["concurrency"] = json!(1);
    let running = case.place.start("a", Kind::Judge, params, &case.inputs(), json!({}));
    let began = Instant::now();
    let attempt = running.stop_after("rows.jsonl");
    assert_eq!(attempt.result, json!({"status": "interrupted"}));
    assert!(began.elapsed() < Duration::from_secs(60) && rows(&attempt).len() == 1);
}

#[test]
fn keys_are_sent_and_found_nowhere() {
    const KEY: &str = "sk-very-secret-0123456789";
    let case = Case::new(3);
    let chat = Chat::start(|asked, _| match asked["messages"][1]["content"].as_str().unwrap().contains("prompt 1") {
        true => Reply::status(401)
            .body("{\"error\": {\"message\": \"Incorrect API key provided: sk-very-secret-0123456789\"}}"),
        false => prefers_good(asked),
    });
    let mut params = weighted(&chat);
    params["endpoint"]["key_env"] = json!("JUDGE_TEST_KEY");
    let attempt = case.run("unset", &params, json!({}));
    assert!(attempt.failure().1.contains("the variable JUDGE_TEST_KEY is not set"), "{}", attempt.result);

    let running =
        case.place.start_in("set", Kind::Judge, params, &case.inputs(), json!({}), &[("JUDGE_TEST_KEY", KEY)]);
    let attempt = running.finish();
    let (class, message) = attempt.failure();
    assert!(class == "environment" && message.contains("Incorrect API key provided: [key]"), "{message}");
    assert!(chat.authorizations().iter().all(|header| header == &format!("Bearer {KEY}")));
    for path in case.place.files() {
        assert!(!String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(KEY), "{}", path.display());
    }
}

#[test]
fn what_a_service_will_never_read_is_unread_and_other_refusals_end_the_stage() {
    let case = Case::new(3);
    let chat = Chat::start(|asked, _| match asked["messages"][1]["content"].as_str().unwrap().contains("prompt 1") {
        true => {
            Reply::status(400).body("{\"error\": {\"code\": \"context_length_exceeded\", \"message\": \"too long\"}}")
        }
        false => prefers_good(asked),
    });
    let attempt = case.run("long", &weighted(&chat), json!({})).succeeded();
    assert_eq!(attempt.result["metrics"]["n_total"], 3);
    let chat = Chat::start(|_, _| Reply::status(404).body("{\"error\": {\"message\": \"no such model\"}}"));
    let attempt = case.run("absent", &weighted(&chat), json!({}));
    let (class, message) = attempt.failure();
    assert!(
        class == "environment"
            && message.contains("no such model")
            && message.ends_with("paid 0 of 3, kept for $0.0000"),
        "{message}"
    );
    assert!(chat.asked().len() <= 2);
}

#[test]
fn a_judge_is_calibrated_on_published_annotations() {
    let case = Case::new(4);
    let chat = Chat::start(|asked, _| prefers_good(asked));
    let published: Vec<Value> = (0..8)
        .map(|index| {
            let preference = if index < 6 { 2.0 } else { 1.0 };
            json!({"instruction": format!("published {index}"), "output_1": "bad", "output_2": format!("good {index}"),
                "generator_1": "a", "generator_2": "b", "annotator": "people", "preference": preference})
        })
        .collect();
    let published = case.place.file("published", "annotations.json", &json!(published).to_string());
    let mut inputs = case.inputs().to_vec();
    inputs.push(("calibrate", "files", &published));
    let mut params = weighted(&chat);
    params["calibrate"] = json!(8);
    let attempt = case.place.run("a", Kind::Judge, params.clone(), &inputs).succeeded();
    let verdict: Value = read_json(&attempt.out("verdict/verdict.json"));
    assert_eq!(
        verdict["comparison"]["calibration"],
        json!({"annotator": "people", "sampled": 8, "n": 8, "rate": 0.75, "kappa": 0.0})
    );
    assert_eq!((&attempt.result["metrics"]["agreement"], chat.asked().len()), (&json!(0.75), 12));

    // A smaller sample is part of the larger one.
    params["calibrate"] = json!(5);
    let known = json!({"known": attempt.file("")});
    let fewer = case.place.run_with("b", Kind::Judge, params.clone(), &inputs, known).succeeded();
    assert_eq!((&fewer.result["metrics"]["agreement_n"], chat.asked().len()), (&json!(5), 12));
    params["calibrate"] = json!(9);
    assert!(case.place.run("c", Kind::Judge, params, &inputs).failure().1.contains("9 of the published comparisons"));
}

#[test]
fn a_server_of_its_own_is_started_and_ended_also_when_the_judge_is_killed() {
    let case = Case::new(5);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/endpoint/serve.py");
    let pid = case.place.path("pid");
    let mut params = json!({
        "annotator": "weighted_alpaca_eval_gpt4_turbo", "concurrency": 1,
        "endpoint": {"model": "own", "serve": format!("echo $$ > {} && exec python3 {script} {{port}} 0", pid.display())},
    });
    let attempt = case.run("a", &params, json!({})).succeeded();
    assert_eq!(attempt.result["metrics"]["n_total"], 6);
    chat::wait_for_end(&pid);

    std::fs::remove_file(&pid).unwrap();
    params["endpoint"]["serve"] = json!(format!("echo $$ > {} && exec python3 {script} {{port}} 0.5", pid.display()));
    let running = case.place.start("b", Kind::Judge, params.clone(), &case.inputs(), json!({}));
    running.kill_after("rows.jsonl", 1);
    chat::wait_for_end(&pid);

    params["endpoint"]["serve"] = json!("echo no such model >&2; exit 3");
    let attempt = case.run("c", &params, json!({}));
    let (class, message) = attempt.failure();
    assert!(class == "environment" && message.contains("ended before it answered"), "{message}");
}
