//! Training through the worker program: agreement with transformers and peft, exact resumption, and what is refused.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use neftpipe_protocol::random::RandomStream;
use neftpipe_stage_torch::lora;
use neftpipe_stage_torch::model::{Llama, Rows};
use neftpipe_stage_torch::tensor_file::{self, TensorFile};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{Row, Stage, golden_rows, goldens, read_json, write_json};
use tch::{Device, Kind, Tensor};

const RUNS: [&str; 7] = ["lora", "lora_random_b", "rslora", "linear", "constant", "weight_decay", "full"];

fn golden_params(golden: &Value, rslora: bool) -> Value {
    let mut params = json!({"shuffle": false, "lora": {"rank": 4, "alpha": 8, "rslora": rslora}});
    for name in ["steps", "learning_rate", "schedule", "weight_decay", "full"] {
        params[name] = golden[name].clone();
    }
    params["batch"] = json!({"size": golden["batch_size"]});
    params["warmup"] = golden["warmup_steps"].clone();
    params
}

fn golden_stage(run: &str, changes: Value) -> Stage {
    let golden = read_json(&goldens().join(format!("training/{run}.json")));
    let mut params = golden_params(&golden, run == "rslora");
    changes.as_object().unwrap().iter().for_each(|(name, value)| params[name] = value.clone());
    let stage = Stage::train(params, &golden_rows(), &[]);
    match golden["start"].as_str() {
        Some(start) => stage.with_input("adapter", "adapter", &goldens().join("training").join(start)),
        None => stage,
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect()
}

fn steps(stage: &Stage, output: &str, field: &str) -> Vec<f64> {
    let text = fs::read_to_string(stage.out(output).join("steps.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()[field].as_f64().unwrap()).collect()
}

#[track_caller]
fn assert_close(what: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let furthest = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(furthest <= tolerance, "{what}: {furthest}");
}

#[track_caller]
fn assert_same_files(a: &Stage, b: &Stage, output: &str) {
    let (a, b) = (a.files(output), b.files(output));
    let differing: Vec<&str> = a.iter().zip(&b).filter(|(a, b)| a != b).map(|((name, _), _)| name.as_str()).collect();
    assert!(a.len() == b.len() && differing.is_empty(), "{differing:?}");
}

#[test]
fn steps_are_those_of_transformers_and_peft() {
    for run in RUNS {
        let golden = read_json(&goldens().join(format!("training/{run}.json")));
        let stage = golden_stage(run, json!({}));
        let result = stage.succeed();
        let (output, file) = if run == "full" { ("model", "model") } else { ("adapter", "adapter_model") };
        assert_close(run, &steps(&stage, output, "learning_rate"), &numbers(&golden["learning_rates"]), 1e-9);
        assert_close(run, &steps(&stage, output, "loss"), &numbers(&golden["losses"]), 1e-4);
        assert_close(run, &steps(&stage, output, "gradient_norm"), &numbers(&golden["grad_norms"]), 1e-3);
        assert_close(run, &numbers(&result["metrics"]["losses"]), &numbers(&golden["losses"]), 1e-4);
        let ours = TensorFile::open(&stage.out(output).join(format!("{file}.safetensors"))).unwrap();
        let theirs = TensorFile::open(&goldens().join(format!("training/{run}.safetensors"))).unwrap();
        assert_eq!(ours.names(), theirs.names(), "{run}");
        for name in theirs.names() {
            let distance = ours.read_any(&name).unwrap() - theirs.read_any(&name).unwrap();
            assert!(distance.abs().max().double_value(&[]) < 1e-3, "{run}: {name}");
        }
    }
}

#[test]
fn losses_in_bf16_stay_within_a_hundredth_of_those_in_f32() {
    let lora = |dropout: f64| ("lora_random_b", json!({"lora": {"rank": 4, "alpha": 8, "dropout": dropout}}));
    for (run, changes) in [lora(0.0), lora(0.1), ("full", json!({"steps": 20}))] {
        let output = if run == "full" { "model" } else { "adapter" };
        let losses = |precision: &str| {
            let mut changes = changes.clone();
            changes["precision"] = json!(precision);
            let stage = golden_stage(run, changes);
            stage.succeed();
            (steps(&stage, output, "loss"), stage)
        };
        let ((wide, _), (narrow, stage)) = (losses("f32"), losses("bf16"));
        for (step, (wide, narrow)) in wide.into_iter().zip(narrow).enumerate() {
            assert!(wide != narrow && (narrow / wide - 1.0).abs() < 0.01, "{run}, step {step}: {narrow} for {wide}");
        }
        // An adapter is trained and written in f32; a model is written as it computed.
        let (file, kind) = match run {
            "full" => ("model/model.safetensors", Kind::BFloat16),
            _ => ("adapter/adapter_model.safetensors", Kind::Float),
        };
        let file = TensorFile::open(&stage.out(file)).unwrap();
        assert!(file.names().iter().all(|name| file.read_any(name).unwrap().kind() == kind), "{run}");
    }
}

/// At this rate most updates are below half a unit in the last place of a bf16 weight: without copies in f32 they would be
/// lost one by one, and with them add up.
#[test]
fn small_updates_of_bf16_weights_add_up() {
    let changes = json!({"steps": 20, "learning_rate": 1e-4, "schedule": "constant", "warmup": 0});
    let moved = |precision: &str| {
        let mut changes = changes.clone();
        changes["precision"] = json!(precision);
        let stage = golden_stage("full", changes).with_checkpoints(&[20]);
        stage.succeed();
        let state = TensorFile::open(&stage.attempt().join("checkpoints/20/state.safetensors")).unwrap();
        let base = TensorFile::open(&goldens().join("training/model/model.safetensors")).unwrap();
        let name = "model.layers.1.mlp.up_proj.weight";
        let before = base.read_any(name).unwrap();
        match state.read_any(&format!("adam.weight.{name}")) {
            Ok(weight) => {
                let rounded = weight.to_kind(Kind::BFloat16);
                assert!(rounded.equal(&state.read_any(name).unwrap()), "what computes is the rounding of the copy");
                weight - before.to_kind(Kind::BFloat16)
            }
            Err(_) => state.read_any(name).unwrap() - before,
        }
    };
    let (wide, narrow) = (moved("f32"), moved("bf16"));
    let distance = (&narrow - &wide).norm().double_value(&[]) / wide.norm().double_value(&[]);
    assert!(distance < 0.1, "{distance}");
}

#[test]
fn a_run_in_bf16_goes_on_from_its_checkpoints_to_the_same_bytes() {
    for (output, mut changes) in [("adapter", json!({})), ("model", json!({"full": true}))] {
        changes["precision"] = json!("bf16");
        let straight = noisy_stage(changes.clone()).with_checkpoints(&[2, 5]);
        straight.succeed();
        for step in [2, 5] {
            let resumed = noisy_stage(changes.clone()).with_known(&straight, step);
            assert_eq!(resumed.succeed()["measured"]["steps_reused"], step);
            assert_same_files(&resumed, &straight, output);
        }
    }
}

fn noisy(changes: Value) -> Value {
    let mut params = json!({"steps": 6, "batch": {"size": 4}, "learning_rate": 1e-2, "lora": {"rank": 4},
        "neft": {"alpha": 5}, "seed": 7});
    changes.as_object().unwrap().iter().for_each(|(name, value)| params[name] = value.clone());
    params
}

fn noisy_stage(changes: Value) -> Stage {
    let rows = golden_rows();
    Stage::train(noisy(changes), &rows[..40], &rows[40..44])
}

#[test]
fn a_run_is_the_same_again_and_through_every_checkpoint() {
    for (output, changes) in [
        ("adapter", json!({"eval_every": 2})),
        ("adapter", json!({"lora": {"rank": 4, "dropout": 0.3}})),
        ("model", json!({"full": true})),
    ] {
        let straight = noisy_stage(changes.clone()).with_checkpoints(&[1, 3, 5, 6]);
        let result = straight.succeed();
        assert_eq!(result["measured"]["steps_computed"], 6);
        for step in [1, 3, 5, 6] {
            let resumed = noisy_stage(changes.clone()).with_known(&straight, step);
            let result = resumed.succeed();
            assert_eq!(result["measured"]["steps_computed"], 6 - step, "{result}");
            assert_eq!(result["measured"]["steps_reused"], step);
            assert_same_files(&resumed, &straight, output);
        }
    }
}

#[test]
fn a_run_that_is_stopped_saves_and_goes_on_to_the_same_end() {
    let long = json!({"steps": 100});
    let stopped = noisy_stage(long.clone());
    let mut child = stopped.start();
    let deadline = Instant::now() + Duration::from_secs(120);
    while stopped.events().iter().filter(|event| event["event"] == "metric").count() < 3 {
        assert!(Instant::now() < deadline, "no step was taken");
        std::thread::sleep(Duration::from_millis(2));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
    assert_eq!(stopped.result()["status"], "interrupted");
    let saved = stopped.events().iter().find_map(|event| event["what"]["checkpoint"]["step"].as_u64()).unwrap();
    assert!((3..100).contains(&saved), "{saved}");
    let resumed = noisy_stage(long.clone()).with_known(&stopped, saved);
    assert_eq!(resumed.succeed()["measured"]["steps_reused"], saved);
    let straight = noisy_stage(long);
    straight.succeed();
    assert_same_files(&resumed, &straight, "adapter");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_with_a_warning() {
    let straight = noisy_stage(json!({})).with_checkpoints(&[2, 4]);
    straight.succeed();
    let resumed = noisy_stage(json!({})).with_known(&straight, 2).with_known(&straight, 4);
    let damaged = resumed.folder.path().join("known/checkpoints/4/state.safetensors");
    let whole = fs::read(&damaged).unwrap();
    fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(resumed.succeed()["measured"]["steps_reused"], 2);
    assert!(resumed.events().iter().any(|event| event["code"] == "checkpoint_unusable"));
    assert_same_files(&resumed, &straight, "adapter");
}

#[test]
fn micro_batches_change_nothing_beyond_rounding() {
    let losses = |changes: Value| {
        let stage = noisy_stage(changes);
        stage.succeed();
        steps(&stage, "adapter", "loss")
    };
    for (noise, dropout) in [("uniform", 0.0), ("symmetric", 0.0), ("symmetric", 0.3)] {
        let with = |batch| json!({"neft": {"alpha": 5, "noise": noise}, "lora": {"rank": 4, "dropout": dropout}, "batch": batch});
        let whole = losses(with(json!({"size": 4})));
        let by_row = losses(with(json!({"size": 4, "micro": 1})));
        let by_token = losses(with(json!({"size": 4, "max_tokens": 40})));
        assert_close("micro", &by_row, &whole, 2e-5);
        assert_close("max_tokens", &by_token, &whole, 2e-5);
        let mut packed = with(json!({"size": 4, "max_tokens": 60}));
        packed["packing"] = json!(true);
        assert_close("packing", &losses(packed), &whole, 2e-5);
    }
}

#[test]
fn noise_changes_training_and_alpha_0_is_no_noise_at_all() {
    let files = |neft: Value| {
        let stage = noisy_stage(json!({"neft": neft}));
        stage.succeed();
        stage.files("adapter")
    };
    let plain = files(json!({"alpha": 0}));
    assert!(files(json!({"alpha": 0, "noise": "gaussian", "length": "padded"})) == plain);
    let noisy: Vec<_> = ["uniform", "gaussian", "gaussian_matched", "bernoulli", "symmetric"]
        .map(|noise| files(json!({"alpha": 5, "noise": noise})))
        .into_iter()
        .chain([files(json!({"alpha": 5, "length": "padded"})), plain])
        .collect();
    for (i, a) in noisy.iter().enumerate() {
        assert!(noisy[..i].iter().all(|b| a != b), "{i}");
    }
}

/// The mean loss of rows whose embeddings have this noise added, by the program's own reading of the formula.
fn loss_with_noise(rows: &[Row], noise: impl Fn(u64, usize) -> Tensor) -> f64 {
    let mut model = Llama::load(&goldens().join("training/model"), Device::Cpu, Kind::Float).unwrap();
    lora::attach(&goldens().join("training/start_random_b"), &mut model).unwrap();
    let (mut sum, mut count) = (0.0, 0);
    for (place, (ids, trained)) in (0..).zip(rows) {
        let row = Rows::new([ids.as_slice()], Device::Cpu);
        let embedded = model.embed(row.ids()) + noise(place, ids.len());
        let losses = model.logits(&model.hidden_states(embedded, &row)).log_softmax(-1, Kind::Double);
        for place in (1..ids.len()).filter(|&place| trained[place] != 0) {
            sum -= losses.double_value(&[place as i64 - 1, i64::from(ids[place])]);
            count += 1;
        }
    }
    sum / f64::from(count)
}

/// Each row has noise of its own by its own length, or by that of the longest, also where rows share a pass; symmetric
/// noise is the mean over both signs. The step's learning rate is 0.
#[test]
fn the_loss_of_a_step_is_that_of_its_rows_with_the_noise_of_the_formula() {
    const WIDTH: usize = 32;
    let mut all = golden_rows();
    all.sort_by_key(|(ids, _)| ids.len());
    let rows = [60, 0, 79, 20].map(|at| all[at].clone());
    let longest = rows.iter().map(|(ids, _)| ids.len()).max().unwrap();
    assert!(rows.iter().any(|(ids, _)| ids.len() * 3 < longest * 2), "the lengths differ");
    let drawn = |family: &str, place: u64, tokens: usize| {
        let mut values = vec![0f32; tokens * WIDTH];
        let mut stream = RandomStream::new("neft noise", 7, &[0, place]);
        match family {
            "uniform" => stream.fill_symmetric(&mut values),
            "gaussian" | "gaussian_matched" => stream.fill_normal(&mut values),
            _ => stream.fill_signs(&mut values),
        }
        let norm = if family == "gaussian_matched" { 3f64.sqrt() } else { 1.0 };
        Tensor::from_slice(&values).view([tokens as i64, WIDTH as i64]) / norm
    };
    for (family, length) in ["uniform", "gaussian", "gaussian_matched", "bernoulli", "symmetric"]
        .into_iter()
        .flat_map(|family| ["actual", "padded"].map(|length| (family, length)))
    {
        let signed = |sign: f64| {
            loss_with_noise(&rows, |place, tokens| {
                let length = if length == "actual" { tokens } else { longest };
                drawn(family, place, tokens) * (sign * 30.0 / ((length * WIDTH) as f64).sqrt())
            })
        };
        let expected = if family == "symmetric" { (signed(1.0) + signed(-1.0)) / 2.0 } else { signed(1.0) };
        for batch in [json!({"size": 4}), json!({"size": 4, "max_tokens": 40})] {
            let params = json!({"steps": 1, "warmup": 1, "batch": batch, "packing": true, "shuffle": false, "seed": 7,
                "lora": {"rank": 4, "alpha": 8}, "neft": {"alpha": 30, "noise": family, "length": length}});
            let start = goldens().join("training/start_random_b");
            let stage = Stage::train(params, &rows, &[]).with_input("adapter", "adapter", &start);
            stage.succeed();
            let loss = steps(&stage, "adapter", "loss")[0];
            assert!((loss - expected).abs() < 1e-5, "{family}, {length}: {loss} is not {expected}");
        }
        assert!((expected - loss_with_noise(&rows, |_, tokens| drawn(family, 0, tokens) * 0.0)).abs() > 1e-3);
    }
}

#[test]
fn dropout_is_for_training_and_neither_for_evaluations_nor_for_an_adapter_of_zeros() {
    let measured = |dropout: f64, start: &str| {
        let lora = json!({"rank": 4, "alpha": 8, "dropout": dropout});
        // One step at rate 0: what differs is the step's loss alone.
        let stage = noisy_stage(json!({"lora": lora, "steps": 1, "warmup": 1}));
        let metrics = stage.with_input("adapter", "adapter", &goldens().join("training").join(start)).succeed();
        (metrics["metrics"]["losses"].clone(), metrics["metrics"]["probe_heldout_losses"].clone())
    };
    let (plain, dropped) = (measured(0.0, "start_random_b"), measured(0.5, "start_random_b"));
    assert_ne!(dropped.0, plain.0);
    assert_eq!(dropped.1, plain.1);
    let (dropped, plain) = (measured(0.5, "start_zero_b"), measured(0.0, "start_zero_b"));
    // Blocks with dropout are computed operator by operator, and round otherwise.
    assert_close("loss of an adapter of zeros", &numbers(&dropped.0), &numbers(&plain.0), 1e-6);
    assert_eq!(dropped.1, plain.1);
}

#[test]
fn an_adapter_says_what_it_is_and_how_it_went() {
    let stage = noisy_stage(json!({"eval_every": 3}));
    let result = stage.succeed();
    assert_eq!(result["outputs"], json!({"adapter": "adapter"}));
    let config = read_json(&stage.out("adapter/adapter_config.json"));
    assert_eq!((&config["r"], &config["lora_alpha"], &config["peft_type"]), (&json!(4), &json!(8), &json!("LORA")));
    assert_eq!(config["base_model_name_or_path"], Value::Null);
    let info = read_json(&stage.out("adapter/neftpipe.json"));
    assert_eq!((&info["template"], &info["steps"]), (&json!("alpaca"), &json!(6)));
    let metrics = read_json(&stage.out("adapter/metrics.json"));
    assert_eq!(metrics, result["metrics"]);
    assert_eq!(metrics["steps"], 6);
    assert_eq!(metrics["alpha_mean_square"], 25.0);
    assert_eq!(metrics["trained_parameters"], 4 * 2 * (32 + 32 + 2 * (32 + 16) + 32 + 32 + 3 * (32 + 64)));
    assert_eq!(numbers(&metrics["probe_heldout_losses"]).len(), 4);
    assert_eq!(metrics["evaluations"].as_array().unwrap().len(), 2);
    assert_eq!(metrics["evaluations"][1]["probe_train_loss"], metrics["probe_train_loss"]);
    assert!(result["measured"]["tokens_per_second"].as_f64().unwrap() > 0.0);
    assert!(result["measured"]["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    let progress = stage.events().into_iter().rfind(|event| event["event"] == "progress").unwrap();
    assert_eq!((&progress["done"], &progress["total"]), (&json!(6), &json!(6)));
}

#[test]
fn activations_that_are_computed_again_change_no_byte() {
    for (output, changes) in [
        ("adapter", json!({"lora": {"rank": 4, "dropout": 0.2}, "batch": {"size": 4, "micro": 2}})),
        ("model", json!({"full": true})),
    ] {
        let plain = noisy_stage(changes.clone());
        let mut again = changes;
        again["activation_checkpointing"] = json!(true);
        let again = noisy_stage(again);
        plain.succeed();
        again.succeed();
        assert_same_files(&again, &plain, output);
    }
}

#[test]
fn activations_that_are_computed_again_are_not_held() {
    let folder = tempfile::tempdir().unwrap();
    write_deep_model(folder.path(), 10);
    let row: Row = ((0..256).map(|i| 5 + i % 90).collect(), (0..256).map(|i| u8::from(i == 255)).collect());
    let rows = vec![row; 40];
    let peak = |activation_checkpointing: bool| {
        let changes = json!({"steps": 1, "batch": {"size": 40}, "activation_checkpointing": activation_checkpointing});
        let stage = Stage::train(noisy(changes), &rows, &[]).with_input("model", "model", folder.path());
        stage.succeed()["measured"]["peak_memory_bytes"].as_u64().unwrap()
    };
    let (kept, again) = (peak(false), peak(true));
    // Of each token a block keeps some 0.9 KB for its backward pass, of which its input is 128 bytes.
    let (tokens, spared_blocks) = (40 * 256, 8);
    assert!(again + tokens * 640 * spared_blocks < kept, "{again} against {kept}");
}

/// The goldens' model with its two blocks again and again.
fn write_deep_model(folder: &Path, layers: usize) {
    let model = goldens().join("training/model");
    let file = TensorFile::open(&model.join("model.safetensors")).unwrap();
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    for name in file.names() {
        let tensor = file.read_any(&name).unwrap();
        match name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) {
            None => tensors.push((name, tensor)),
            Some((layer, rest)) => {
                let copies = (layer.parse().unwrap()..layers).step_by(2);
                tensors.extend(copies.map(|copy| (format!("model.layers.{copy}.{rest}"), tensor.shallow_clone())));
            }
        }
    }
    tensor_file::write(&folder.join("model.safetensors"), &tensors).unwrap();
    let mut config = read_json(&model.join("config.json"));
    config["num_hidden_layers"] = json!(layers);
    write_json(&folder.join("config.json"), &config);
}

#[test]
fn rows_of_like_length_share_a_step() {
    let padded = |group_by_length: bool| {
        let changes = json!({"group_by_length": group_by_length, "steps": 10,
            "neft": {"alpha": 5, "length": "padded", "noise": "bernoulli"}});
        let stage = noisy_stage(changes);
        stage.succeed();
        // alpha/√(L·d) with L that of the step's longest row tells it.
        let longest = |magnitude: f64| 25.0 / (magnitude * magnitude * 32.0) * 4.0;
        let magnitudes = steps(&stage, "adapter", "noise_magnitude").into_iter().map(longest).sum::<f64>();
        magnitudes - steps(&stage, "adapter", "tokens").iter().sum::<f64>()
    };
    let (grouped, plain) = (padded(true), padded(false));
    assert!(grouped < 0.5 * plain, "tokens of padding: {grouped} against {plain}");
}

/// Overfits ten rows, so that the held-out loss rises after a while.
fn overfitting(changes: Value) -> Stage {
    let mut params = noisy(json!({"steps": 60, "learning_rate": 5e-2, "eval_every": 2, "schedule": "constant",
        "warmup": 2}));
    changes.as_object().unwrap().iter().for_each(|(name, value)| params[name] = value.clone());
    let rows = golden_rows();
    Stage::train(params, &rows[..10], &rows[40..44])
}

#[test]
fn early_stopping_ends_training_and_leaves_the_best_weights() {
    let rule = json!({"early_stopping": {"patience": 3}});
    let stage = overfitting(rule.clone()).with_checkpoints(&[5, 9]);
    let metrics = stage.succeed()["metrics"].clone();
    let (best, stopped) = (metrics["best_step"].as_u64().unwrap(), metrics["stopped_at"].as_u64().unwrap());
    assert!(stopped < 60 && best == stopped - 6, "{best} {stopped}");
    assert_eq!(metrics["steps"], stopped);
    let losses: Vec<f64> = metrics["evaluations"].as_array().unwrap().iter().map(heldout_loss).collect();
    assert_eq!(losses.len() as u64, stopped / 2);
    assert!(losses.iter().all(|&loss| loss >= losses[best as usize / 2 - 1]));
    assert_eq!(heldout_loss(&metrics), losses[best as usize / 2 - 1]);
    // The weights are those of a run that ended there.
    let ended = overfitting(json!({"steps": best}));
    let probed = ended.succeed()["metrics"].clone();
    assert_eq!(probed["probe_heldout_losses"], metrics["probe_heldout_losses"]);
    let weights = |stage: &Stage| fs::read(stage.out("adapter/adapter_model.safetensors")).unwrap();
    assert!(weights(&ended) == weights(&stage));
    assert_eq!(read_json(&stage.out("adapter/neftpipe.json"))["steps"], best);
    for step in [5, 9] {
        let resumed = overfitting(rule.clone()).with_known(&stage, step);
        assert_eq!(resumed.succeed()["measured"]["steps_reused"], step);
        assert_same_files(&resumed, &stage, "adapter");
    }
}

#[test]
fn patience_that_is_not_used_up_stops_nothing() {
    let metrics = overfitting(json!({"steps": 5, "early_stopping": {"patience": 3}})).succeed()["metrics"].clone();
    assert_eq!((&metrics["steps"], metrics.get("stopped_at")), (&json!(5), None));
    assert_eq!(metrics["best_step"], 5, "the weights of the end count as evaluated");
    let rows = golden_rows();
    Stage::train(noisy(json!({"eval_every": 2, "early_stopping": {"patience": 1}})), &rows[..10], &[])
        .fail("usage", &["early_stopping", "holdout"]);
}

fn heldout_loss(figures: &Value) -> f64 {
    figures["probe_heldout_loss"].as_f64().unwrap()
}

#[test]
fn a_fully_trained_model_can_be_trained_on() {
    let first = noisy_stage(json!({"full": true, "steps": 2}));
    assert_eq!(first.succeed()["outputs"], json!({"model": "model"}));
    let second = noisy_stage(json!({"steps": 2})).with_input("model", "model", &first.out("model"));
    second.succeed();
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let rows = golden_rows();
    noisy_stage(json!({"device": "cuda:7"})).fail("environment", &["cuda:7"]);
    Stage::train(noisy(json!({})), &[], &rows[..1]).fail("data", &["no rows"]);
    let long = (vec![5; 300], vec![1; 300]);
    Stage::train(noisy(json!({})), &[rows[0].clone(), long], &[]).fail("usage", &["row 1", "300", "256", "max_length"]);
    Stage::train(noisy(json!({})), &[(vec![5, 128], vec![1, 1])], &[]).fail("data", &["128"]);
    Stage::train(noisy(json!({})), &[(vec![5, 6], vec![1, 0])], &[]).fail("data", &["row 0", "carries loss"]);
    let start = goldens().join("training/start_zero_b");
    noisy_stage(json!({"lora": {"rank": 8}})).with_input("adapter", "adapter", &start).fail("usage", &["rank: 4"]);
    noisy_stage(json!({"full": true})).with_input("adapter", "adapter", &start).fail("usage", &["adapter"]);
}

#[test]
fn a_loss_that_is_no_number_names_the_step_and_the_rows() {
    noisy_stage(json!({"learning_rate": 1e30, "clip": 0, "warmup": 0, "schedule": "constant"}))
        .with_checkpoints(&[1])
        .fail("data", &["step ", "rows of train.safetensors", "checkpoint", "learning_rate"]);
}

#[test]
fn a_loss_that_explodes_stops_training_while_it_is_a_number() {
    noisy_stage(
        json!({"learning_rate": 30, "clip": 0, "warmup": 0, "schedule": "constant", "steps": 30, "full": true}),
    )
    .with_checkpoints(&[1])
    .fail("data", &["the loss is ", "guesses has ", "rows of train.safetensors", "the last checkpoint is of step 1"]);
}
