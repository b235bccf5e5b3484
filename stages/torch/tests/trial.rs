//! Training without files: what a process that only computes holds.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::{WORKER, read_json, write_json};

fn ask(vocabulary: i64, rows: usize) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let (question, answer) = (folder.path().join("question.json"), folder.path().join("answer.json"));
    let config = json!({"model_type": "llama", "vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 2, "tie_word_embeddings": true});
    let params = json!({"steps": 1, "batch": {"size": rows}});
    write_json(
        &question,
        &json!({"try": {"config": config, "params": params, "row_tokens": vec![512; rows], "threads": 1}}),
    );
    assert!(Command::new(WORKER).arg("ask").args([&question, &answer]).status().unwrap().success());
    let said = read_json(&answer);
    assert_eq!(said["status"], "answered", "{said}");
    said["answer"].clone()
}

/// All logits of the 2,048 tokens that carry loss would be 1.05 GB, and their gradient as much.
#[test]
fn a_large_vocabulary_takes_little_more_memory_than_a_small_one() {
    let peak = |vocabulary| ask(vocabulary, 8)["peak_memory_bytes"].as_u64().unwrap();
    let (large, small) = (peak(128_256), peak(512));
    let taken = large.saturating_sub(small);
    assert!(taken < 600_000_000, "loss and backward pass took {taken} bytes");
    assert!(taken > 64 << 20, "the weights of the large vocabulary are in it: {taken} bytes");
}
