//! What training leaves, in the hands of `peft` and `transformers` themselves, where Python has them
//! (`NEFTPIPE_TEST_PYTHON`, else `python3`); without them each test says that it was skipped.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use neftpipe_stage_torch::lora;
use neftpipe_stage_torch::model::{Llama, Rows};
use neftpipe_stage_torch::tensor_file;
use serde_json::{Value, json};
use support::{Row, Stage, golden_rows, goldens, read_json, write_json};
use tch::{Device, Kind};

/// `peft_roundtrip.py` ends so where Python has no peft.
const NO_PEFT: i32 = 77;

fn train(params: serde_json::Value) -> Stage {
    let rows: Vec<Row> = golden_rows();
    let stage = Stage::train(params, &rows[..40], &rows[40..44]);
    stage.succeed();
    stage
}

fn load(model: &Path) -> Llama {
    Llama::load(model, Device::Cpu, Kind::Float).unwrap()
}

/// Writes token ids and the model's logits for them, each row run alone.
fn write_logits(model: &Llama, folder: &Path) {
    let rows: Vec<Vec<i32>> = golden_rows().into_iter().take(3).map(|(ids, _)| ids).collect();
    let logits: Vec<_> = rows
        .iter()
        .enumerate()
        .map(|(i, row)| {
            let row = Rows::new([row.as_slice()], Device::Cpu);
            let hidden = model.hidden_states(model.embed(row.ids()), &row);
            (format!("logits.{i}"), model.logits(&hidden))
        })
        .collect();
    tensor_file::write(&folder.join("logits.safetensors"), &logits).unwrap();
    write_json(&folder.join("rows.json"), &json!(rows));
}

fn run_python(arguments: &[&Path], code: Option<&str>) {
    let python = std::env::var_os("NEFTPIPE_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(&python);
    if let Some(code) = code {
        command.args(["-c", code]);
    }
    let ran = command.args(arguments).env("OMP_NUM_THREADS", "1").env("HF_HUB_OFFLINE", "1").output();
    match ran.ok().filter(|output| output.status.code() != Some(NO_PEFT)) {
        None => println!("skipped: no transformers or peft in {}", Path::new(&python).display()),
        Some(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn peft_computes_the_same_with_an_adapter_trained_here() {
    for targets in [json!(["q_proj", "v_proj"]), json!(["k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])] {
        let lora = json!({"rank": 3, "alpha": 5.5, "rslora": true, "targets": targets});
        let params =
            json!({"steps": 5, "batch": {"size": 4}, "learning_rate": 5e-2, "neft": {"alpha": 5}, "lora": lora});
        let (stage, base) = (train(params), goldens().join("training/model"));
        let mut model = load(&base);
        lora::attach(&stage.out("adapter"), &mut model).unwrap();
        let folder = stage.folder.path();
        write_logits(&model, folder);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peft_roundtrip.py");
        let (ids, logits) = (folder.join("rows.json"), folder.join("logits.safetensors"));
        run_python(&[&script, &base, &stage.out("adapter"), &ids, &logits], None);
    }
}

const COMPARE_MODEL: &str = r#"
import json, sys
try:
    import torch
    from safetensors.torch import load_file
    from transformers import LlamaForCausalLM
except ImportError:
    sys.exit(77)
model_dir, ids, logits = sys.argv[1:]
model = LlamaForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
logits = load_file(logits)
for i, row in enumerate(json.load(open(ids))):
    with torch.no_grad():
        theirs = model(torch.tensor([row])).logits[0]
    distance = (theirs - logits[f"logits.{i}"]).abs().max().item()
    assert distance < 1e-4, distance
"#;

#[test]
fn transformers_loads_a_fully_trained_model() {
    for (precision, format) in [("f32", "float32"), ("bf16", "bfloat16")] {
        let params =
            json!({"steps": 5, "batch": {"size": 4}, "learning_rate": 1e-2, "full": true, "precision": precision});
        let stage = train(params);
        let (model, folder) = (stage.out("model"), stage.folder.path());
        assert_eq!(read_json(&model.join("config.json"))["torch_dtype"], format);
        write_logits(&load(&model), folder);
        run_python(&[&model, &folder.join("rows.json"), &folder.join("logits.safetensors")], Some(COMPARE_MODEL));
    }
}

/// Asks the worker to merge an adapter into the goldens' model; returns its answer and the folder.
fn merged(stage: &Stage, precision: &str) -> (Value, PathBuf) {
    let (folder, base) = (stage.folder.path(), goldens().join("training/model"));
    let out = folder.join(format!("merged-{precision}"));
    fs::create_dir(&out).unwrap();
    let (question, answer) = (folder.join("question.json"), folder.join("answer.json"));
    let merge = json!({"model": base, "adapter": stage.out("adapter"), "out": out, "precision": precision});
    write_json(&question, &json!({"merge": merge}));
    assert!(Command::new(support::WORKER).arg("ask").args([&question, &answer]).status().unwrap().success());
    let answer = read_json(&answer);
    assert_eq!(answer["status"], "answered", "{answer}");
    (answer["answer"].clone(), out)
}

fn greatest_distance(a: &Llama, b: &Llama) -> f64 {
    let row = Rows::new([golden_rows()[41].0.as_slice()], Device::Cpu);
    let logits = |model: &Llama| model.logits(&model.hidden_states(model.embed(row.ids()), &row));
    (logits(a) - logits(b)).abs().max().double_value(&[])
}

#[test]
fn a_merged_model_computes_what_the_adapter_computes_on_its_base() {
    let lora = json!({"rank": 4, "targets": ["q_proj", "o_proj", "up_proj", "down_proj"]});
    for (scope, sparsity) in [("", json!(null)), ("delta", json!({"scope": "delta", "target": 0.5, "every": 2}))] {
        let params =
            json!({"steps": 6, "batch": {"size": 4}, "learning_rate": 5e-2, "lora": lora, "sparsity": sparsity});
        let (stage, base) = (train(params), goldens().join("training/model"));
        let mut beside = load(&base);
        lora::attach(&stage.out("adapter"), &mut beside).unwrap();
        let (answer, folder) = merged(&stage, "f32");
        let model = load(&folder);
        assert!(greatest_distance(&model, &beside) < 1e-4, "{scope}");
        assert!(greatest_distance(&model, &load(&base)) > 1e-2, "{scope}: it is more than its base");
        let changed: i64 = load(&base)
            .weights()
            .iter()
            .zip(model.weights())
            .map(|((_, before), (_, after))| after.ne_tensor(before).sum(Kind::Int64).int64_value(&[]))
            .sum();
        assert_eq!(answer["changed"], changed, "{scope}");
        if scope == "delta" {
            let report = &read_json(&stage.out("adapter/metrics.json"))["sparsity"];
            assert_eq!(answer["changed"], report["update_nonzeros"]);
            assert_eq!(answer["bf16_surviving_share"], report["bf16_surviving_share"]);
        }
        let (_, rounded) = merged(&stage, "bf16");
        assert_eq!(read_json(&rounded.join("config.json"))["torch_dtype"], "bfloat16");
        let size = |folder: &Path| fs::metadata(folder.join("model.safetensors")).unwrap().len();
        assert!(size(&rounded) < size(&folder) * 6 / 10);
        write_logits(&beside, stage.folder.path());
        let (rows, logits) = (stage.folder.path().join("rows.json"), stage.folder.path().join("logits.safetensors"));
        run_python(&[&folder, &rows, &logits], Some(COMPARE_MODEL));
    }
}
