//! Sparse-NEFT through the worker program: what its masks promise, in every scope.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;

use neftpipe_stage_torch::lora;
use neftpipe_stage_torch::model::{Llama, Rows};
use neftpipe_stage_torch::tensor_file::TensorFile;
use serde_json::{Value, json};
use support::{Row, Stage, golden_rows, goldens, read_json};
use tch::{Device, Kind, Tensor};

const SCOPES: [&str; 4] = ["lora_factors", "delta", "base_plus_lora", "full"];
const PRECISIONS: [&str; 2] = ["f32", "bf16"];
const TARGET: f64 = 0.6;

/// Every scope in every number format.
fn kinds_of_runs() -> impl Iterator<Item = (&'static str, &'static str)> {
    SCOPES.into_iter().flat_map(|scope| PRECISIONS.map(|precision| (scope, precision)))
}

fn stage(scope: &str, sparsity: Value, changes: Value) -> Stage {
    let mut params = json!({"steps": 8, "batch": {"size": 2}, "learning_rate": 1e-2, "lora": {"rank": 4},
        "neft": {"alpha": 5}, "seed": 7});
    changes.as_object().unwrap().iter().for_each(|(name, value)| params[name] = value.clone());
    stage_of(scope, &sparsity, params, &golden_rows()[..20])
}

fn stage_of(scope: &str, sparsity: &Value, mut params: Value, rows: &[Row]) -> Stage {
    params["full"] = json!(scope == "full");
    if params.get("sparsity").is_none() {
        params["sparsity"] = json!({"scope": scope, "target": TARGET, "every": 1, "end": 0.75});
        sparsity.as_object().unwrap().iter().for_each(|(name, value)| params["sparsity"][name] = value.clone());
    }
    Stage::train(params, rows, &golden_rows()[40..42])
}

fn output(scope: &str) -> &'static str {
    if scope == "full" { "model" } else { "adapter" }
}

fn tensors(stage: &Stage, file: &str) -> BTreeMap<String, Tensor> {
    let file = TensorFile::open(&stage.out(file)).unwrap();
    file.names().into_iter().map(|name| (name.clone(), file.read_any(&name).unwrap())).collect()
}

fn nonzeros(tensor: &Tensor) -> i64 {
    tensor.ne(0.0).sum(Kind::Int64).int64_value(&[])
}

fn kept(entries: i64) -> i64 {
    ((1.0 - TARGET) * entries as f64).round_ties_even() as i64
}

fn load(adapter: Option<&Stage>) -> Llama {
    let mut model = Llama::load(&goldens().join("training/model"), Device::Cpu, Kind::Float).unwrap();
    if let Some(stage) = adapter {
        lora::attach(&stage.out("adapter"), &mut model).unwrap();
        lora::merge(&mut model);
    }
    model
}

#[test]
fn masks_have_exactly_as_many_entries_as_were_asked_for() {
    for (scope, precision) in kinds_of_runs() {
        let stage = stage(scope, json!({"ramp": "cubic"}), json!({"precision": precision}));
        let report = stage.succeed()["metrics"]["sparsity"].clone();
        for layer in report["layers"].as_array().unwrap() {
            let entries = layer["entries"].as_i64().unwrap();
            assert_eq!(layer["active"], kept(entries), "{scope}: {layer}");
        }
        let updates = report["updates"].as_array().unwrap();
        assert_eq!(updates.last().unwrap()["step"], 7, "{scope}: the mask is frozen after `end`");
        assert!(updates.iter().skip(1).any(|update| update["churn"].as_f64().unwrap() > 0.0), "{scope}: {report}");
        assert!(report["explored"].as_f64().unwrap() > 1.0 - TARGET, "{scope}");
        assert!(report["overlap_with_first"].as_f64().unwrap() < 1.0, "{scope}");
    }
}

/// Ramp over steps 3, 5 and 7: 0.2, 0.4, 0.6 of zeros. After that the masks are frozen.
#[test]
fn after_every_step_masks_have_the_entries_of_their_ramp() {
    for scope in SCOPES {
        let ramp = json!({"ramp": "linear", "initial": 0.2, "start": 0.25, "every": 2});
        let stage = stage(scope, ramp, json!({})).with_checkpoints(&[1, 2, 3, 4, 5, 6, 7, 8]);
        stage.succeed();
        let state = |step: u64| {
            TensorFile::open(&stage.attempt().join(format!("checkpoints/{step}/state.safetensors"))).unwrap()
        };
        let masks =
            |step: u64| state(step).names().into_iter().filter(|name| name.starts_with("mask.")).collect::<Vec<_>>();
        assert!(masks(2).is_empty(), "{scope}: before the first update there is none");
        for (step, zeros) in [(3, 0.2), (4, 0.2), (5, 0.4), (6, 0.4), (7, 0.6), (8, 0.6)] {
            assert!(!masks(step).is_empty());
            for name in masks(step) {
                let active = state(step).read_any(&name).unwrap().bitwise_and(1);
                let keep = ((1.0 - zeros) * active.numel() as f64).round_ties_even() as i64;
                assert_eq!(nonzeros(&active), keep, "{scope}, step {step}: {name}");
                if step % 2 == 0 {
                    let before = state(step - 1).read_any(&name).unwrap().bitwise_and(1);
                    assert!(before.equal(&active), "{scope}: {name} changed in step {step}");
                }
            }
        }
    }
}

#[test]
fn masked_factors_and_weights_are_exactly_zero_and_the_rest_is_dense() {
    for precision in PRECISIONS {
        let factors = stage("lora_factors", json!({}), json!({"precision": precision}));
        factors.succeed();
        assert_eq!(read_json(&factors.out("adapter/adapter_config.json"))["peft_type"], "LORA");
        for (name, tensor) in tensors(&factors, "adapter/adapter_model.safetensors") {
            assert!(nonzeros(&tensor) <= kept(tensor.numel() as i64), "{name}");
            assert!(nonzeros(&tensor) > 0, "{name}");
        }
        let full = stage("full", json!({}), json!({"precision": precision}));
        let report = full.succeed()["metrics"]["sparsity"].clone();
        let mut sum = 0;
        for (name, tensor) in tensors(&full, "model/model.safetensors") {
            if name.contains("_proj.weight") {
                assert!(nonzeros(&tensor) <= kept(tensor.numel() as i64), "{name}");
                sum += nonzeros(&tensor);
            } else {
                assert!(nonzeros(&tensor) > tensor.numel() as i64 * 9 / 10, "{name}");
            }
        }
        assert_eq!(report["model_nonzeros"], sum);
    }
}

/// Of a state in the middle of training: outside the masks, what is trained and all that the optimizer keeps of it.
#[test]
fn weights_copies_and_moments_are_exactly_zero_outside_the_masks() {
    for (scope, precision) in [("lora_factors", "f32"), ("lora_factors", "bf16"), ("full", "f32"), ("full", "bf16")] {
        let stage = stage(scope, json!({"ramp": "linear"}), json!({"precision": precision})).with_checkpoints(&[4]);
        stage.succeed();
        let state = TensorFile::open(&stage.attempt().join("checkpoints/4/state.safetensors")).unwrap();
        let masks = state.names().into_iter().filter_map(|name| name.strip_prefix("mask.").map(str::to_owned));
        let mut held = 0;
        for name in masks.collect::<Vec<_>>() {
            let outside = state.read_any(&format!("mask.{name}")).unwrap().bitwise_and(1).eq(0);
            assert!(nonzeros(&outside) > 0, "{name}");
            for prefix in ["", "adam.mean.", "adam.square.", "adam.weight."] {
                let Ok(tensor) = state.read_any(&format!("{prefix}{name}")) else { continue };
                assert_eq!(
                    nonzeros(&tensor.ne(0.0).logical_and(&outside)),
                    0,
                    "{scope} in {precision}: {prefix}{name}"
                );
                held += 1;
            }
        }
        let of_each = if (scope, precision) == ("full", "bf16") { 4 } else { 3 };
        assert_eq!(held, of_each * if scope == "full" { 14 } else { 28 });
    }
}

#[test]
fn a_merged_update_differs_from_the_base_only_inside_its_mask() {
    for (scope, precision) in kinds_of_runs().filter(|(scope, _)| ["delta", "base_plus_lora"].contains(scope)) {
        let stage = stage(scope, json!({}), json!({"precision": precision}));
        let report = stage.succeed()["metrics"]["sparsity"].clone();
        let config = read_json(&stage.out("adapter/adapter_config.json"));
        assert_eq!(config["peft_type"], "NEFTPIPE_SPARSE_LORA", "peft must not load it as if it were dense");
        let masks = tensors(&stage, "adapter/masks.safetensors");
        let (base, merged) = (load(None), load(Some(&stage)));
        for ((name, before), (_, after)) in base.projections().into_iter().zip(merged.projections()) {
            let mask = &masks[&format!("base_model.model.{name}.mask")];
            assert_eq!(mask.sum(Kind::Int64).int64_value(&[]), kept(mask.numel() as i64), "{scope}: {name}");
            let outside = mask.logical_not();
            let stays = if scope == "delta" { &before.weight } else { &before.weight.zeros_like() };
            let wrong = after.weight.ne_tensor(stays).logical_and(&outside);
            assert_eq!(nonzeros(&wrong), 0, "{scope}: {name}");
        }
        // The report counts beside the weights that were computed with, before the sum is rounded.
        let kind = if precision == "f32" { Kind::Float } else { Kind::BFloat16 };
        let mut model = Llama::load(&goldens().join("training/model"), Device::Cpu, kind).unwrap();
        lora::attach(&stage.out("adapter"), &mut model).unwrap();
        let (mut changed, mut survived) = (0, 0);
        for (_, it) in model.projections() {
            let (before, after) = (it.weight.to_kind(Kind::Float), it.combined());
            let rounded = |it: &Tensor| it.to_kind(Kind::BFloat16);
            changed += nonzeros(&after.ne_tensor(&before));
            survived += nonzeros(&rounded(&after).ne_tensor(&rounded(&before)));
        }
        assert_eq!(report["update_nonzeros"], changed, "{scope} in {precision}");
        let share = report["bf16_surviving_share"].as_f64().unwrap();
        assert!(share > 0.0 && share < 1.0, "{share}");
        assert_eq!(share, survived as f64 / changed as f64, "{scope} in {precision}");
    }
}

#[test]
fn a_sparse_adapter_computes_as_it_was_trained_beside_the_weights_and_merged() {
    let rows = golden_rows();
    for (scope, precision) in kinds_of_runs().filter(|(scope, _)| ["delta", "base_plus_lora"].contains(scope)) {
        let stage = stage(scope, json!({}), json!({"precision": precision, "learning_rate": 5e-2}));
        let metrics = stage.succeed()["metrics"].clone();
        let tolerance = if precision == "f32" { 1e-4 } else { 2e-2 };
        let mut beside = load(None);
        assert!(lora::attach(&stage.out("adapter"), &mut beside).unwrap().sparse);
        let (ids, trained) = &rows[40];
        let loss = |model: &Llama| {
            let row = Rows::new([ids.as_slice()], Device::Cpu);
            let logits = model.logits(&model.hidden_states(model.embed(row.ids()), &row)).log_softmax(-1, Kind::Float);
            let places: Vec<usize> = (1..ids.len()).filter(|&place| trained[place] != 0).collect();
            let of = |&place: &usize| -logits.double_value(&[place as i64 - 1, i64::from(ids[place])]);
            places.iter().map(of).sum::<f64>() / places.len() as f64
        };
        let probed = metrics["probe_heldout_losses"][0].as_f64().unwrap();
        for (form, model) in [("beside", &beside), ("merged", &load(Some(&stage)))] {
            assert!((loss(model) - probed).abs() < tolerance, "{scope}, {form}: {} is not {probed}", loss(model));
        }
        assert!((loss(&load(None)) - loss(&beside)).abs() > 1e-3, "{scope}: the base alone computes something else");
    }
}

#[test]
fn a_run_resumed_within_the_ramp_is_the_same() {
    let ways = [("gradient", "magnitude"), ("random", "wanda")];
    for ((scope, precision), (grow, drop)) in kinds_of_runs().zip(ways.into_iter().cycle()) {
        let sparsity = json!({"ramp": "linear", "start": 0.2, "grow": grow, "drop": drop});
        let run = || stage(scope, sparsity.clone(), json!({"precision": precision}));
        let straight = run().with_checkpoints(&[1, 3, 5, 7]);
        straight.succeed();
        for step in [1, 3, 5, 7] {
            let resumed = run().with_known(&straight, step);
            assert_eq!(resumed.succeed()["measured"]["steps_reused"], step);
            let same = resumed.files(output(scope)) == straight.files(output(scope));
            assert!(same, "{scope} in {precision}, step {step}");
        }
    }
}

#[test]
fn without_zeros_it_is_plain_training_byte_for_byte() {
    for (scope, precision) in kinds_of_runs() {
        let sparse = stage(scope, json!({"target": 0}), json!({"precision": precision}));
        let plain = stage(scope, json!({}), json!({"sparsity": null, "precision": precision}));
        sparse.succeed();
        plain.succeed();
        assert!(sparse.files(output(scope)) == plain.files(output(scope)), "{scope}");
    }
}

#[test]
fn until_its_first_mask_a_sparse_run_passes_the_states_of_a_dense_one() {
    for (scope, precision) in kinds_of_runs() {
        let state = |mut changes: Value| {
            changes["precision"] = json!(precision);
            let stage = stage(scope, json!({"start": 0.5}), changes).with_checkpoints(&[4, 5]);
            stage.succeed();
            [4, 5].map(|step| fs::read(stage.attempt().join(format!("checkpoints/{step}/state.safetensors"))).unwrap())
        };
        let (sparse, dense) = (state(json!({})), state(json!({"sparsity": null})));
        assert!(sparse[0] == dense[0], "{scope}");
        assert!(sparse[1] != dense[1], "{scope}");
    }
}

#[test]
fn losses_in_bf16_stay_within_a_hundredth_of_those_in_f32() {
    for scope in SCOPES {
        let losses = |precision: &str| {
            // Masks that move choose otherwise where two entries are nearly equal.
            let gentle = json!({"precision": precision, "learning_rate": 3e-3});
            let result = stage(scope, json!({"target": 0.3, "exchange": 0}), gentle).succeed();
            serde_json::from_value::<Vec<f64>>(result["metrics"]["losses"].clone()).unwrap()
        };
        for (step, (wide, narrow)) in losses("f32").into_iter().zip(losses("bf16")).enumerate() {
            assert!(wide != narrow && (narrow / wide - 1.0).abs() < 0.01, "{scope}, step {step}: {narrow} for {wide}");
        }
    }
}

#[test]
fn a_static_mask_is_made_once() {
    let report = stage("delta", json!({"exchange": 0}), json!({})).succeed()["metrics"]["sparsity"].clone();
    assert_eq!(report["updates"].as_array().unwrap().len(), 1);
    assert_eq!((&report["overlap_with_first"], &report["updates"][0]["churn"]), (&json!(1.0), &json!(0.0)));
}

#[test]
fn alpha_0_is_plain_sparse_training() {
    let files = |neft: Value| {
        let stage = stage("delta", json!({}), json!({"neft": neft}));
        stage.succeed();
        stage.files("adapter")
    };
    let plain = files(json!({"alpha": 0}));
    assert!(files(json!({"alpha": 0, "noise": "gaussian"})) == plain);
    assert!(files(json!({"alpha": 5})) != plain);
}

#[test]
fn activations_computed_again_and_dropout_go_with_masks() {
    let dropout = json!({"lora": {"rank": 4, "dropout": 0.2}});
    let mut again = dropout.clone();
    again["activation_checkpointing"] = json!(true);
    let (kept, again) = (stage("delta", json!({}), dropout), stage("delta", json!({}), again));
    kept.succeed();
    again.succeed();
    assert!(kept.files("adapter") == again.files("adapter"));
}

#[test]
fn rows_and_rankings_over_all_layers_keep_what_they_say() {
    let rows = stage("full", json!({"granularity": "row"}), json!({}));
    rows.succeed();
    for (name, tensor) in tensors(&rows, "model/model.safetensors") {
        if name.contains("_proj.weight") {
            let live = tensor.abs().sum_dim_intlist(1i64, false, Kind::Float);
            assert_eq!(nonzeros(&live), kept(live.numel() as i64), "{name}");
        }
    }
    for allocation in ["global", "erk"] {
        let report =
            stage("delta", json!({"allocation": allocation}), json!({})).succeed()["metrics"]["sparsity"].clone();
        let (active, entries) = (report["active"].as_i64().unwrap(), report["entries"].as_i64().unwrap());
        let rounding = if allocation == "erk" { 14 } else { 0 };
        assert!((active - kept(entries)).abs() <= rounding, "{allocation}: {active} of {entries}");
        let layers = report["layers"].as_array().unwrap();
        assert!(layers.iter().any(|layer| layer["sparsity"] != layers[0]["sparsity"]), "{allocation}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let thin = json!({"lora": {"rank": 6}});
    stage("lora_factors", json!({"granularity": "2:4", "target": 0.5}), thin).fail("usage", &["2:4", "6 entries"]);
    let sparse = stage("delta", json!({}), json!({}));
    sparse.succeed();
    stage("delta", json!({}), json!({}))
        .with_input("adapter", "adapter", &sparse.out("adapter"))
        .fail("usage", &["masks"]);
}

#[test]
fn two_of_every_four_entries_are_kept() {
    for scope in ["full", "lora_factors", "delta"] {
        let stage = stage(scope, json!({"granularity": "2:4", "target": 0.5}), json!({}));
        let report = stage.succeed()["metrics"]["sparsity"].clone();
        let updates = report["updates"].as_array().unwrap();
        assert!(updates.iter().skip(1).any(|update| update["churn"].as_f64().unwrap() > 0.0), "{scope}: {report}");
        let file = match scope {
            "full" => "model/model.safetensors",
            "delta" => "adapter/masks.safetensors",
            _ => "adapter/adapter_model.safetensors",
        };
        for (name, tensor) in tensors(&stage, file).into_iter().filter(|(name, _)| name.contains("_proj.")) {
            let of_group = tensor.ne(0.0).view([-1, 4]).sum_dim_intlist(1i64, false, Kind::Int64);
            assert!(of_group.max().int64_value(&[]) <= 2, "{scope}: {name}");
            if scope == "delta" {
                assert_eq!(of_group.min().int64_value(&[]), 2, "{name}");
            }
        }
    }
}

#[test]
fn growth_at_random_has_a_seed_of_its_own() {
    let files = |sparsity: Value| {
        let stage = stage("lora_factors", sparsity, json!({}));
        stage.succeed();
        stage.files("adapter")
    };
    let random = files(json!({"grow": "random"}));
    assert!(random == files(json!({"grow": "random", "seed": 7})), "that of training is 7");
    assert!(random != files(json!({"grow": "random", "seed": 8})));
    assert!(files(json!({})) == files(json!({"seed": 8})), "nothing else is drawn from it");
}

#[test]
fn early_stopping_leaves_the_best_weights_under_the_masks_that_they_had() {
    // Where training is far too fast, chance decides which evaluation is best: one of these rates leaves one behind. The
    // last one learns slowly, until its mask takes nearly everything away.
    let fast = [0.1, 0.2, 0.3, 1.0].as_slice();
    let late = json!({"start": 0.9, "end": 1.0, "target": 0.99});
    for (scope, sparsity, rates) in
        [("delta", json!({}), fast), ("lora_factors", json!({}), fast), ("delta", late, [5e-3].as_slice())]
    {
        let rule = json!({"early_stopping": {"patience": 30}});
        let overfit = |rate: f64| {
            let mut params = json!({"learning_rate": rate, "schedule": "constant", "warmup": 2, "eval_every": 2,
                "steps": 40, "batch": {"size": 4}});
            rule.as_object().unwrap().iter().for_each(|(name, value)| params[name] = value.clone());
            stage(scope, sparsity.clone(), params)
        };
        let runs = rates.iter().map(|&rate| (rate, overfit(rate).with_checkpoints(&[9, 37])));
        let mut ended = runs.map(|(rate, run)| (rate, run.succeed()["metrics"].clone(), run));
        let (rate, metrics, whole) = ended
            .find(|(_, metrics, _)| metrics["best_step"].as_u64().unwrap() < 38)
            .expect("one is best before the end");
        let best = metrics["best_step"].as_u64().unwrap();
        // What is left computes the probe of the best evaluation, by the program's own reading of it.
        let mut model = load(None);
        lora::attach(&whole.out("adapter"), &mut model).unwrap();
        let (ids, trained) = &golden_rows()[40];
        let row = Rows::new([ids.as_slice()], Device::Cpu);
        let logits = model.logits(&model.hidden_states(model.embed(row.ids()), &row)).log_softmax(-1, Kind::Float);
        let places: Vec<usize> = (1..ids.len()).filter(|&place| trained[place] != 0).collect();
        let of = |&place: &usize| -logits.double_value(&[place as i64 - 1, i64::from(ids[place])]);
        let loss = places.iter().map(of).sum::<f64>() / places.len() as f64;
        assert_eq!(
            whole.out("adapter/masks.safetensors").exists(),
            scope == "delta" && rates == fast,
            "{scope} at {best}"
        );
        let probed = metrics["probe_heldout_losses"][0].as_f64().unwrap();
        assert!((loss - probed).abs() < 1e-4, "{scope} at {best}: {loss} is not {probed}");
        for step in [9, 37] {
            let resumed = overfit(rate).with_known(&whole, step);
            resumed.succeed();
            assert!(resumed.files("adapter") == whole.files("adapter"), "{scope} from {step}");
        }
    }
}

#[test]
fn what_is_counted_is_of_the_weights_that_early_stopping_chose() {
    for precision in PRECISIONS {
        let late = json!({"start": 0.9, "end": 1.0, "target": 0.99});
        let stopping =
            json!({"precision": precision, "learning_rate": 1e-3, "eval_every": 2, "early_stopping": {"patience": 9}});
        let run = stage("full", late, stopping);
        let metrics = run.succeed()["metrics"].clone();
        assert!(metrics["best_step"].as_u64().unwrap() < 8, "before the masks");
        let files = tensors(&run, "model/model.safetensors");
        let of_projections = files.iter().filter(|(name, _)| name.contains("_proj.weight"));
        let sum: i64 = of_projections.map(|(_, tensor)| nonzeros(tensor)).sum();
        assert_eq!(metrics["sparsity"]["model_nonzeros"], sum, "{precision}");
    }
}

/// Where a tensor has the `keep` highest scores.
fn highest(scores: &Tensor, keep: i64) -> Tensor {
    let (_, order) = scores.flatten(0, -1).sort_stable(true, 0, true);
    let chosen = order.narrow(0, 0, keep);
    Tensor::zeros([scores.numel() as i64], (Kind::Bool, Device::Cpu)).index_fill(0, &chosen, 1).view_as(scores)
}

/// Masks by |W|·‖x‖₂ with the norms that transformers' and peft's layers saw in the same step, whose learning rate is 0.
#[test]
fn wanda_drops_what_is_small_and_multiplies_little() {
    let golden = |file: &str| {
        let file = TensorFile::open(&goldens().join("training").join(file)).unwrap();
        move |name: &str| file.read_any(name).unwrap()
    };
    let (norms, factors) = (golden("input_norms.safetensors"), golden("start_random_b/adapter_model.safetensors"));
    let base = golden("model/model.safetensors");
    for scope in SCOPES {
        let trained = |sparsity: Value, changes: Value| {
            let mut params = json!({"steps": 1, "warmup": 1, "batch": {"size": 4}, "shuffle": false, "neft": {"alpha": 0},
                "lora": {"rank": 4, "alpha": 8}});
            changes.as_object().unwrap().iter().for_each(|(name, value)| params[name] = value.clone());
            let stage = stage_of(scope, &sparsity, params, &golden_rows());
            let stage = match scope {
                "full" => stage,
                _ => stage.with_input("adapter", "adapter", &goldens().join("training/start_random_b")),
            };
            stage.succeed();
            stage
        };
        let wanda = json!({"drop": "wanda", "exchange": 0});
        let file = match scope {
            "full" => "model/model.safetensors",
            "lora_factors" => "adapter/adapter_model.safetensors",
            _ => "adapter/masks.safetensors",
        };
        let bytes = |stage: &Stage| fs::read(stage.out(file)).unwrap();
        let whole = trained(wanda.clone(), json!({}));
        for changes in [json!({"batch": {"size": 4, "micro": 1}}), json!({"activation_checkpointing": true})] {
            assert!(bytes(&trained(wanda.clone(), changes)) == bytes(&whole), "{scope}");
        }
        let magnitude = trained(json!({"exchange": 0}), json!({}));
        assert!(bytes(&magnitude) != bytes(&whole), "{scope}: the norms decide too");
        let kept_entries = tensors(&whole, file);
        for (name, _) in load(None).projections() {
            let factor = |which: &str| factors(&format!("base_model.model.{name}.lora_{which}.weight"));
            let norm = |part: &str| norms(&format!("adapted.{name}.{part}"));
            let weight = || base(&format!("{name}.weight"));
            let update = || factor("B").mm(&factor("A")) * 2.0;
            let expected = match scope {
                "full" => vec![(format!("{name}.weight"), weight().abs() * norms(&format!("base.{name}")))],
                "lora_factors" => ["A", "B"]
                    .map(|it| {
                        let scores = factor(it).abs() * norm(&format!("lora_{it}.default"));
                        (format!("base_model.model.{name}.lora_{it}.weight"), scores)
                    })
                    .into(),
                "delta" => vec![(format!("base_model.model.{name}.mask"), update().abs() * norm("base_layer"))],
                _ => vec![(format!("base_model.model.{name}.mask"), (weight() + update()).abs() * norm("base_layer"))],
            };
            for (tensor, scores) in expected {
                let mask = kept_entries[&tensor].ne(0.0);
                assert!(mask == highest(&scores, kept(scores.numel() as i64)), "{scope}: {tensor}");
            }
        }
    }
}
