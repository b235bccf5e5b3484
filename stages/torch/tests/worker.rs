//! The worker program over its files: requests in, answers and scores out.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use neftpipe_protocol::artifact::AnswerRow;
use neftpipe_protocol::scoring::ScoreRow;
use neftpipe_protocol::{Digest, Kind, PROTOCOL_VERSION};
use serde_json::{Value, json};
use tempfile::TempDir;

fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny-model").canonicalize().unwrap()
}

fn input(path: &Path, artifact_type: &str) -> Value {
    json!([{"path": path, "type": artifact_type, "digest": Digest::of(artifact_type.as_bytes()), "stage": artifact_type, "axes": {}}])
}

struct Attempt {
    folder: TempDir,
    known: Option<PathBuf>,
}

impl Attempt {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), known: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_rows(&self, name: &str, rows: &[Value]) {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), lines).unwrap();
    }

    /// Runs the worker and returns its result.
    fn run(&self, kind: Kind, params: Value, inputs: Value) -> Value {
        fs::create_dir_all(self.path("out")).unwrap();
        let request = json!({
            "protocol": PROTOCOL_VERSION, "kind": kind, "version": kind.version(), "stage": "test", "params": params,
            "inputs": inputs, "attempt": self.folder.path(), "out": self.path("out"), "base": self.folder.path(),
            "known": self.known, "threads": 1,
        });
        fs::write(self.path("request.json"), request.to_string()).unwrap();
        let worker = env!("CARGO_BIN_EXE_neftpipe-stage-torch");
        let status = Command::new(worker).arg("exec").arg("--request").arg(self.path("request.json")).status().unwrap();
        let result: Value = serde_json::from_slice(&fs::read(self.path("result.json")).unwrap()).unwrap();
        assert_eq!(status.success(), result["status"] == "succeeded");
        result
    }

    fn generate(&self, prompts: &[Value], params: Value) -> Value {
        self.write_rows("prompts/prompts.jsonl", prompts);
        let inputs =
            json!({"model": input(&tiny_model(), "model"), "prompts": input(&self.path("prompts"), "prompts")});
        self.run(Kind::Generate, params, inputs)
    }

    fn answers(&self) -> Vec<AnswerRow> {
        serde_json::from_slice(&fs::read(self.path("out/answers/answers.json")).unwrap()).unwrap()
    }

    fn events(&self) -> String {
        fs::read_to_string(self.path("events.jsonl")).unwrap()
    }
}

fn prompts() -> Vec<Value> {
    vec![
        json!({"instruction": "Add 1 and 2.", "reference": "3", "dataset": "sums"}),
        json!({"instruction": "Add.", "input": "2 and 2 and 2 and 2 and 2 and 2", "reference": ["12", "twelve"]}),
        json!({"instruction": "Add 1 and 2.", "reference": "drei"}),
    ]
}

#[test]
fn answers_stand_in_the_order_of_the_prompts_with_what_the_judge_needs() {
    let attempt = Attempt::new();
    let result = attempt.generate(&prompts(), json!({"max_new_tokens": 5}));
    assert_eq!(result["outputs"], json!({"answers": "answers"}));
    let answers = attempt.answers();
    let [first, second, third] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((first.reference.as_slice(), first.dataset.as_deref()), (["3".to_owned()].as_slice(), Some("sums")));
    assert_eq!((second.input.as_str(), second.reference.len()), ("2 and 2 and 2 and 2 and 2 and 2", 2));
    assert_eq!((&first.output, &first.prompt_digest), (&third.output, &third.prompt_digest));
    assert_ne!(first.prompt_digest, second.prompt_digest);
    assert!(answers.iter().all(|row| row.completion_tokens <= Some(5) && row.finish_reason.is_some()));
    assert_eq!(first.generator, format!("model-{}", Digest::of(b"model").short()));
    assert_eq!(result["metrics"]["rows"], 3);
    assert_eq!(attempt.events().matches(r#""event":"sample""#).count(), 2);
}

#[test]
fn saved_rows_are_used_again_also_for_a_longer_list() {
    let first = Attempt::new();
    first.generate(&prompts()[..1], json!({"max_new_tokens": 5}));
    let mut second = Attempt::new();
    fs::create_dir(second.path("known")).unwrap();
    fs::copy(first.path("rows.jsonl"), second.path("known/rows.jsonl")).unwrap();
    second.known = Some(second.path("known"));
    let result = second.generate(&prompts(), json!({"max_new_tokens": 5, "batch_tokens": 9}));
    assert_eq!(result["measured"]["rows_reused"], 2);
    let alone = Attempt::new();
    alone.generate(&prompts(), json!({"max_new_tokens": 5}));
    assert_eq!(second.answers(), alone.answers());
    let other = second.generate(&prompts(), json!({"max_new_tokens": 4}));
    assert_eq!(other["measured"]["rows_reused"], 0);
}

#[test]
fn prompts_that_cannot_be_answered_are_refused_with_their_row() {
    let attempt = Attempt::new();
    let long = json!({"instruction": "1 ".repeat(600)});
    let result = attempt.generate(&[prompts()[0].clone(), long], json!({}));
    assert_eq!((result["status"].as_str(), result["class"].as_str()), (Some("failed"), Some("data")));
    let message = result["message"].as_str().unwrap();
    assert!(message.starts_with("prompts.jsonl, row 2: ") && message.contains("no room to generate"), "{message}");
    let none = attempt.generate(&[], json!({}));
    assert!(none["message"].as_str().unwrap().contains("no prompts"));
}

#[test]
fn an_adapter_brings_its_template_and_another_choice_is_warned_of() {
    let attempt = Attempt::new();
    attempt.write_rows("prompts/prompts.jsonl", &prompts());
    let adapter = attempt.path("adapter");
    write_adapter(&adapter);
    let mut inputs =
        json!({"model": input(&tiny_model(), "model"), "prompts": input(&attempt.path("prompts"), "prompts")});
    inputs["adapter"] = input(&adapter, "adapter");
    let digest = |answers: &[AnswerRow]| answers[0].prompt_digest.clone();
    attempt.run(Kind::Generate, json!({"max_new_tokens": 3}), inputs.clone());
    let (own, events) = (attempt.answers(), attempt.events());
    assert!(!events.contains("template_mismatch"), "{events}");
    assert!(own[0].generator.ends_with(&format!("+{}", Digest::of(b"adapter").short())));
    attempt.run(Kind::Generate, json!({"max_new_tokens": 3, "template": "alpaca"}), inputs.clone());
    assert_eq!(digest(&own), digest(&attempt.answers()));
    attempt.run(Kind::Generate, json!({"max_new_tokens": 3, "template": "chat"}), inputs);
    assert_ne!(digest(&own), digest(&attempt.answers()));
    assert!(attempt.events().contains("template_mismatch"));
}

/// An adapter of rank 1 with zero B for the tiny model, as training leaves it.
fn write_adapter(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q_proj"], "use_dora": false});
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let info =
        json!({"template": "alpaca", "date_string": "26 Jul 2024", "base_model": Digest::of(b"model"), "steps": 1});
    fs::write(folder.join("neftpipe.json"), info.to_string()).unwrap();
    let tensors: Vec<(String, tch::Tensor)> = (0..2)
        .flat_map(|layer| {
            let name = format!("base_model.model.model.layers.{layer}.self_attn.q_proj");
            let zeros = |shape: [i64; 2]| tch::Tensor::zeros(shape, (tch::Kind::Float, tch::Device::Cpu));
            [(format!("{name}.lora_A.weight"), zeros([1, 32])), (format!("{name}.lora_B.weight"), zeros([32, 1]))]
        })
        .collect();
    neftpipe_stage_torch::tensor_file::write(&folder.join("adapter_model.safetensors"), &tensors).unwrap();
}

#[test]
fn pairs_are_scored_in_both_orders_and_what_does_not_fit_is_null() {
    let attempt = Attempt::new();
    let pair = |id, a: &str, b: &str| json!({"id": id, "instruction": "Add 1 and 2.", "output_1": a, "output_2": b});
    let long = "3 ".repeat(400);
    attempt.write_rows(
        "pairs.jsonl",
        &[pair("ab", "3", "It is four."), pair("ba", "It is four.", "3"), pair("long", "3", &long)],
    );
    let result =
        attempt.run(Kind::Judge, json!({"annotator": "local"}), json!({"model": input(&tiny_model(), "model")}));
    assert_eq!(result["outputs"], json!({"scores": "files"}));
    let text = fs::read_to_string(attempt.path("out/scores/scores.jsonl")).unwrap();
    let mut rows: Vec<ScoreRow> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    let [ab, ba, long] = rows.as_slice() else { panic!("{rows:?}") };
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-5, "{a} is not {b}");
    let (ab_orders, ba_orders) = (ab.orders.unwrap(), ba.orders.unwrap());
    for order in 0..2 {
        close(ab_orders[order].first, ba_orders[1 - order].first);
        close(ab_orders[order].second, ba_orders[1 - order].second);
        assert!(ab_orders[order].first < 0.0 && ab_orders[order].second < 0.0);
    }
    close(ab.preference().unwrap(), 3.0 - ba.preference().unwrap());
    assert_eq!(long.orders, None);
}
