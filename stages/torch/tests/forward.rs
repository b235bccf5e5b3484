//! Logits, greedy continuations and adapters against transformers and peft (`goldens/README.md`).
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use neftpipe_stage_torch::lora;
use neftpipe_stage_torch::model::{AdapterInput, Cache, Llama, Place, Rows};
use neftpipe_stage_torch::tensor_file::TensorFile;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

const MODELS: [&str; 7] =
    ["gqa_tied", "mha_untied", "rope_llama3", "stated_head_dim", "biases", "sharded", "bf16_weights"];

#[derive(Deserialize)]
struct Golden {
    input_ids: Vec<Vec<i32>>,
    #[serde(default)]
    greedy: Vec<Greedy>,
}

#[derive(Deserialize)]
struct Greedy {
    repetition_penalty: f64,
    eos_token_ids: Vec<i32>,
    max_new_tokens: usize,
    prompts: Vec<Vec<i32>>,
    continuations: Vec<Vec<i32>>,
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

fn golden(folder: &Path) -> (Golden, TensorFile) {
    let text = fs::read_to_string(folder.join("golden.json")).unwrap();
    (serde_json::from_str(&text).unwrap(), TensorFile::open(&folder.join("golden.safetensors")).unwrap())
}

fn load(model: &str) -> Llama {
    Llama::load(&goldens().join(model), Device::Cpu, Kind::Float).unwrap()
}

fn rows(rows: &[Vec<i32>]) -> Rows {
    Rows::new(rows.iter().map(Vec::as_slice), Device::Cpu)
}

fn logits(model: &Llama, batch: &[Vec<i32>]) -> Vec<Tensor> {
    let rows = rows(batch);
    let hidden = model.hidden_states(model.embed(rows.ids()), &rows);
    model.logits(&hidden).split_with_sizes(rows.lengths(), 0)
}

fn assert_close(ours: &Tensor, theirs: &Tensor, what: &str) {
    assert_eq!(ours.size(), theirs.size(), "{what}");
    let distance = (ours - theirs).abs().max().double_value(&[]);
    assert!(distance < 1e-4, "{what}: {distance}");
}

fn assert_logits(model: &Llama, golden: &Golden, tensors: &TensorFile, prefix: &str, what: &str) {
    for (i, ours) in logits(model, &golden.input_ids).iter().enumerate() {
        assert_close(ours, &tensors.read_any(&format!("{prefix}logits.{i}")).unwrap(), &format!("{what}, row {i}"));
    }
}

/// Greedy decoding with the cache, all rows at once; the penalty here is 1.
fn continue_greedily(model: &Llama, case: &Greedy) -> Vec<Vec<i32>> {
    let best = |hidden: &Tensor| model.logits(hidden).argmax(-1, false);
    let mut cache = model.cache(case.prompts.len() * 64, 64);
    let mut next = best(&model.prefill(&rows(&case.prompts), None, &mut cache));
    let mut continuations = vec![Vec::new(); case.prompts.len()];
    for _ in 0..case.max_new_tokens {
        for (continuation, token) in continuations.iter_mut().zip(Vec::<i64>::try_from(&next).unwrap()) {
            continuation.push(token as i32);
        }
        next = best(&model.decode(&next, &mut cache));
    }
    continuations
}

#[test]
fn logits_are_those_of_transformers() {
    for name in MODELS {
        let (golden, tensors) = golden(&goldens().join(name));
        assert_logits(&load(name), &golden, &tensors, "", name);
    }
}

#[test]
fn a_rows_logits_do_not_depend_on_its_neighbours() {
    let model = load("gqa_tied");
    let row = vec![5, 9, 2, 7, 30];
    let beside = |neighbour: i32| logits(&model, &[vec![neighbour; 8], row.clone(), vec![neighbour; 3]]).swap_remove(1);
    assert_eq!(beside(11), beside(3));
    assert_close(&beside(11), &logits(&model, std::slice::from_ref(&row))[0], "alone");
}

#[test]
fn decoding_with_a_cache_continues_as_transformers() {
    for name in MODELS {
        let (golden, _) = golden(&goldens().join(name));
        let plain = golden.greedy.iter().find(|case| case.repetition_penalty == 1.0 && case.eos_token_ids.is_empty());
        let plain = plain.unwrap();
        assert_eq!(continue_greedily(&load(name), plain), plain.continuations, "{name}");
    }
}

/// Decodes ids [B] and compares with whole rows read at once.
fn assert_next(model: &Llama, cache: &mut Cache, ids: &[i64], whole: &[Vec<i32>], what: &str) {
    let ours = model.logits(&model.decode(&Tensor::from_slice(ids), cache));
    let last: Vec<Tensor> = logits(model, whole).iter().map(|row| row.get(-1)).collect();
    assert_close(&ours, &Tensor::stack(&last, 0), what);
}

#[test]
fn rows_leave_and_join_a_cache_and_it_changes_its_shape_between() {
    let model = load("gqa_tied");
    let mut cache = model.cache(24, 8);
    let _ = model.prefill(&rows(&[vec![5, 6, 7], vec![8, 9], vec![10, 11, 12, 13]]), None, &mut cache);
    cache.swap_remove(0);
    assert_eq!(cache.lengths(), [4, 2]);
    assert_next(&model, &mut cache, &[20, 21], &[vec![10, 11, 12, 13, 20], vec![8, 9, 21]], "two of three rows");
    cache.reshape(6);
    assert_eq!(cache.capacity_rows(), 4);
    let _ = model.prefill(&rows(&[vec![30, 31, 32], vec![40]]), None, &mut cache);
    let whole = [vec![10, 11, 12, 13, 20, 1], vec![8, 9, 21, 2], vec![30, 31, 32, 3], vec![40, 4]];
    assert_next(&model, &mut cache, &[1, 2, 3, 4], &whole, "two more rows");
}

/// On the way of kernels and on that of tensors, which models with biases go.
#[test]
fn rows_after_a_prefix_are_those_that_were_read_whole() {
    let prefix: Vec<i32> = (1..41).map(|i| i * 7 % 60).collect();
    let rests = [vec![5, 6, 7], vec![9], (3..38).collect()];
    let whole: Vec<Vec<i32>> = rests.iter().map(|rest| [prefix.clone(), rest.clone()].concat()).collect();
    for (name, kind, most) in [
        ("gqa_tied", Kind::Float, 1e-5),
        ("biases", Kind::Float, 1e-5),
        ("gqa_tied", Kind::BFloat16, 3e-2),
        ("biases", Kind::BFloat16, 3e-2),
    ] {
        let model = Llama::load(&goldens().join(name), Device::Cpu, kind).unwrap();
        let caches = || model.cache(4 * 80, 80);
        let (mut read_whole, mut continued) = (caches(), caches());
        let exact = model.prefill(&rows(&whole), None, &mut read_whole);
        let before = model.read_prefix(&prefix);
        assert_eq!(before.tokens(), 40);
        let ours = model.prefill(&rows(&rests), Some(&before), &mut continued);
        let next = Tensor::from_slice(&[1i64, 2, 3]);
        let decoded = |cache: &mut Cache| model.decode(&next, cache);
        assert_eq!(continued.lengths(), read_whole.lengths());
        for (ours, exact) in [(ours, exact), (decoded(&mut continued), decoded(&mut read_whole))] {
            let distance = (ours - &exact).abs().max().double_value(&[]) / exact.abs().max().double_value(&[]);
            assert!(distance < most, "{name}, {kind:?}: {distance}");
        }
    }
}

#[test]
fn adapters_of_peft_compute_the_same_beside_and_merged() {
    for name in ["all", "qv_rslora"] {
        let folder = goldens().join("adapters").join(name);
        let (golden, tensors) = golden(&folder);
        let mut model = load("gqa_tied");
        lora::attach(&folder, &mut model).unwrap();
        assert_logits(&model, &golden, &tensors, "", name);
        lora::merge(&mut model);
        assert_logits(&model, &golden, &tensors, "merged.", name);
    }
}

/// The adapters see what the projection sees; blocks are then computed operator by operator.
struct Same;

impl AdapterInput for Same {
    fn of(&self, x: &Tensor, _: Place) -> Tensor {
        x.shallow_clone()
    }
}

#[test]
fn halves_of_a_block_have_the_values_and_gradients_of_autograd() {
    let batch = [vec![5, 6, 7, 8, 9, 10, 11], vec![12, 13], vec![14, 15, 16, 17]];
    for (base, adapter) in [("gqa_tied", "all"), ("gqa_tied", "qv_rslora")] {
        let mut model = load(base);
        lora::attach(&goldens().join("adapters").join(adapter), &mut model).unwrap();
        let trained = lora::tensors(&model);
        trained.iter().for_each(|(_, it)| drop(it.set_requires_grad(true)));
        let pass = |adapter_input: Option<&dyn AdapterInput>| {
            let rows = rows(&batch);
            let embedded = model.embed(rows.ids()).set_requires_grad(true);
            let hidden = model.training_states(embedded.shallow_clone(), &rows, adapter_input);
            // Weighted, since the plain sum of normed states hardly depends on anything.
            let weights = Tensor::arange(hidden.numel() as i64, (Kind::Float, Device::Cpu)).sin().view_as(&hidden);
            (&hidden * weights).sum(Kind::Float).backward();
            let mut found = vec![("states".to_owned(), hidden.detach()), ("embedded".to_owned(), embedded.grad())];
            for (name, tensor) in &trained {
                found.push((name.clone(), tensor.grad().copy()));
                tensor.shallow_clone().zero_grad();
            }
            found
        };
        for ((name, whole), (_, stepwise)) in pass(None).iter().zip(pass(Some(&Same))) {
            assert!(stepwise.abs().max().double_value(&[]) > 1e-3, "{adapter}: {name} is nothing");
            assert_close(whole, &stepwise, &format!("{adapter}: {name}"));
        }
    }
}

#[test]
fn an_adapter_written_here_is_the_one_that_was_read() {
    let folder = goldens().join("adapters/qv_rslora");
    let mut model = load("gqa_tied");
    let read = lora::attach(&folder, &mut model).unwrap();
    let copy = tempfile::tempdir().unwrap();
    lora::save(copy.path(), &model, &read.lora).unwrap();
    let mut other = load("gqa_tied");
    assert_eq!(lora::attach(copy.path(), &mut other).unwrap(), read);
    for ((name, ours), (_, theirs)) in lora::tensors(&other).iter().zip(lora::tensors(&model)) {
        assert!(ours.equal(&theirs), "{name}");
    }
}

#[test]
fn adapters_that_do_more_than_lora_are_refused_by_name() {
    let source = goldens().join("adapters/all");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(source.join(lora::WEIGHTS_FILE), folder.path().join(lora::WEIGHTS_FILE)).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&fs::read(source.join(lora::CONFIG_FILE)).unwrap()).unwrap();
    for (name, value) in [
        ("peft_type", "\"IA3\""),
        ("use_dora", "true"),
        ("modules_to_save", "[\"lm_head\"]"),
        ("rank_pattern", "{\"q_proj\": 2}"),
        ("target_modules", "\".*_proj\""),
        ("target_modules", "[\"model.layers.0.self_attn.q_proj\"]"),
        ("bias", "\"all\""),
    ] {
        let mut changed = config.clone();
        changed[name] = serde_json::from_str(value).unwrap();
        fs::write(folder.path().join(lora::CONFIG_FILE), changed.to_string()).unwrap();
        let message = lora::attach(folder.path(), &mut load("gqa_tied")).unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
    }
    fs::write(folder.path().join(lora::CONFIG_FILE), config.to_string()).unwrap();
    let message = lora::attach(folder.path(), &mut load("rope_llama3")).unwrap_err().to_string();
    assert!(message.contains("shape"), "{message}");
}

#[test]
fn damaged_models_are_refused() {
    let source = goldens().join("gqa_tied");
    let folder = tempfile::tempdir().unwrap();
    let message = |folder: &Path| Llama::load(folder, Device::Cpu, Kind::Float).err().unwrap().to_string();
    assert!(message(folder.path()).contains("config.json"));
    fs::copy(source.join("config.json"), folder.path().join("config.json")).unwrap();
    assert!(message(folder.path()).contains("model.safetensors"));
    let whole = fs::read(source.join("model.safetensors")).unwrap();
    fs::write(folder.path().join("model.safetensors"), &whole[..whole.len() - 10]).unwrap();
    assert!(message(folder.path()).contains("truncated"));
    fs::write(folder.path().join("model.safetensors"), "not tensors at all").unwrap();
    assert!(message(folder.path()).contains("model.safetensors"));
}
