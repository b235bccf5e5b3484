//! Continuous batches against transformers' greedy continuations, one by one (`goldens/README.md`).
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::fs;
use std::path::Path;

use neftpipe_stage_torch::generate::decoding::{Continuation, Prompt, Settings, continue_all};
use neftpipe_stage_torch::generate::sampling::{Sampling, stream};
use neftpipe_stage_torch::model::Llama;
use serde::Deserialize;
use tch::{Device, Kind};

#[derive(Deserialize)]
struct Golden {
    greedy: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    repetition_penalty: f64,
    eos_token_ids: Vec<u32>,
    max_new_tokens: usize,
    prompts: Vec<Vec<i32>>,
    continuations: Vec<Vec<u32>>,
}

const GREEDY: Sampling = Sampling { temperature: 0.0, top_p: 1.0, top_k: 0, repetition_penalty: 1.0 };
const MODELS: [&str; 7] =
    ["gqa_tied", "mha_untied", "rope_llama3", "stated_head_dim", "biases", "sharded", "bf16_weights"];

fn goldens(model: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(model)
}

fn load(model: &str) -> Llama {
    // More threads than free cores would wait for each other in every one of these tiny products.
    tch::set_num_threads(1);
    Llama::load(&goldens(model), Device::Cpu, Kind::Float).unwrap()
}

fn settings(sampling: Sampling, max_new_tokens: usize, batch_tokens: usize) -> Settings {
    Settings { max_new_tokens, end_tokens: Vec::new(), sampling, batch_tokens }
}

/// The continuations in the order of the prompts.
fn run(model: &Llama, prompts: &[Vec<i32>], settings: &Settings) -> Vec<Continuation> {
    let prompt =
        |(index, ids): (usize, &Vec<i32>)| Prompt { index, ids: ids.clone(), random: stream(7, &format!("{ids:?}")) };
    let mut rows = Vec::new();
    let keep = |row| {
        rows.push(row);
        Ok::<_, Infallible>(())
    };
    let whole = continue_all(model, prompts.iter().enumerate().map(prompt).collect(), settings, keep, || false);
    assert_eq!(whole, Ok(true));
    rows.sort_by_key(|row| row.index);
    rows
}

#[test]
fn greedy_continuations_are_those_of_transformers_in_batches_of_every_size() {
    for name in MODELS {
        let golden: Golden =
            serde_json::from_str(&fs::read_to_string(goldens(name).join("golden.json")).unwrap()).unwrap();
        let model = load(name);
        for case in golden.greedy {
            // Many rows of different lengths, more than fit at once: rows join, leave, and the cache changes its shape.
            let copies = 3;
            let prompts = vec![case.prompts.clone(); copies].concat();
            let sampling = Sampling { repetition_penalty: case.repetition_penalty, ..GREEDY };
            for batch_tokens in [1, 75, 10_000] {
                let settings = Settings {
                    end_tokens: case.eos_token_ids.clone(),
                    ..settings(sampling, case.max_new_tokens, batch_tokens)
                };
                for (row, wanted) in
                    run(&model, &prompts, &settings).iter().zip(vec![case.continuations.clone(); copies].concat())
                {
                    assert_eq!(row.ids, wanted, "{name}, {batch_tokens} tokens, row {}", row.index);
                    let ended = wanted.last().is_some_and(|token| case.eos_token_ids.contains(token));
                    assert_eq!(row.ended, ended);
                }
            }
        }
    }
}

#[test]
fn a_sample_does_not_depend_on_its_batch_mates() {
    let model = load("gqa_tied");
    let sampling = Sampling { temperature: 0.9, top_p: 0.95, top_k: 50, repetition_penalty: 1.1 };
    let prompts: Vec<Vec<i32>> = (1..9).map(|length| (1..=length).map(|i| (i * 7) % 100 + 1).collect()).collect();
    let together = run(&model, &prompts, &settings(sampling, 12, 10_000));
    let alone = run(&model, &prompts, &settings(sampling, 12, 1));
    assert_eq!(together, alone);
    let again: Vec<Vec<i32>> = prompts.iter().rev().take(3).cloned().collect();
    let fewer = run(&model, &again, &settings(sampling, 12, 50));
    assert_eq!(fewer[0].ids, together[7].ids);
    assert_ne!(together[0].ids, run(&model, &prompts[..1], &settings(GREEDY, 12, 1))[0].ids);
}

#[test]
fn what_all_prompts_begin_with_changes_no_answer() {
    for name in MODELS {
        let model = load(name);
        let sampling = Sampling { repetition_penalty: 1.3, ..GREEDY };
        let prompts: Vec<Vec<i32>> =
            (1..12).map(|last| (1..=20).chain((0..last).map(|i| 30 + i * last % 60)).collect()).collect();
        let together = run(&model, &prompts, &settings(sampling, 12, 200));
        for (row, prompt) in together.iter().zip(&prompts) {
            let alone = run(&model, std::slice::from_ref(prompt), &settings(sampling, 12, 200));
            assert_eq!(row.ids, alone[0].ids, "{name}, row {}", row.index);
        }
    }
}

/// Places in the cache are taken again, and what is masked there must not be felt. `mha_untied` goes the way of the CPU's
/// kernels, `biases` that of tensors.
#[test]
fn a_row_that_is_no_number_spoils_no_other() {
    const SPOILT: i32 = 30;
    for name in ["mha_untied", "biases"] {
        let model = load(name);
        let weights = model.weights();
        assert!(
            weights.iter().any(|(name, _)| name == "lm_head.weight"),
            "{name}: else all logits of a token are none"
        );
        let clean: Vec<Vec<i32>> = (1..25).map(|length| (1..=length).map(|i| i * length % 29 + 1).collect()).collect();
        let mut prompts = clean.clone();
        (0..8).for_each(|at| prompts.insert(3 * at, vec![SPOILT; 2 + 3 * at]));
        let settings = settings(GREEDY, 10, 90);
        let (_, embedding) = weights.iter().find(|(name, _)| name == "model.embed_tokens.weight").unwrap();
        let _ = embedding.get(i64::from(SPOILT)).fill_(f64::NAN);
        let wanted: Vec<_> =
            clean.iter().map(|prompt| run(&model, std::slice::from_ref(prompt), &settings)[0].ids.clone()).collect();
        let together = run(&model, &prompts, &settings);
        let found: Vec<_> =
            together.into_iter().filter(|row| prompts[row.index][0] != SPOILT).map(|row| row.ids).collect();
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn the_window_bounds_an_answer() {
    let model = load("gqa_tied");
    let window = model.config().max_position_embeddings as usize;
    let prompt: Vec<i32> = (0..window as i32 - 3).map(|i| i % 100 + 1).collect();
    let rows = run(&model, &[prompt, vec![5]], &settings(GREEDY, 10, 1));
    assert_eq!((rows[0].ids.len(), rows[0].ended), (3, false));
    assert_eq!(rows[1].ids.len(), 10);
}

#[test]
fn it_stops_when_told_and_hands_on_the_errors_of_its_caller() {
    let model = load("gqa_tied");
    let prompts = || vec![Prompt { index: 0, ids: vec![1, 2], random: stream(0, "") }];
    let stopped = continue_all(&model, prompts(), &settings(GREEDY, 4, 100), |_| Ok::<_, String>(()), || true);
    assert_eq!(stopped, Ok(false));
    let failed = continue_all(&model, prompts(), &settings(GREEDY, 4, 100), |_| Err("full".to_owned()), || false);
    assert_eq!(failed, Err("full".to_owned()));
    assert_eq!(
        continue_all(&model, Vec::new(), &settings(GREEDY, 4, 100), |_| Ok::<_, String>(()), || false),
        Ok(true)
    );
}
