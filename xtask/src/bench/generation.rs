//! `bench generate`: answers of the torch worker beside transformers, by turns with each other and with what the machine can
//! do.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::Bench;
use super::figure::{Figure, rates, share};
use super::peers::{PeerArgs, Python, ask_ceiling, text};
use super::shape::Shape;
use super::timing::Times;
use super::worker::{number, stage};
use crate::workspace::TORCH_WORKER;

/// A case of generation.
#[derive(Clone, Copy)]
struct Case {
    what: &'static str,
    /// Prompts.
    rows: usize,
    /// Rows that are at work at a time.
    at_a_time: usize,
    /// What has the worker take so many.
    batch_tokens: u64,
    wanted: &'static str,
}

const NEW_TOKENS: usize = 64;
const GENERATION: [Case; 3] = [
    Case { what: "16 rows at a time", rows: 16, at_a_time: 16, batch_tokens: 8192, wanted: "≥ 2.5" },
    Case { what: "1 row at a time", rows: 4, at_a_time: 1, batch_tokens: 1, wanted: "≥ 2" },
    Case { what: "64 rows of mixed length", rows: 64, at_a_time: 16, batch_tokens: 8192, wanted: "≥ 3" },
];

/// Tokens a second of greedy answers.
pub fn generate(bench: &Bench, args: &PeerArgs, folder: &Path) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for case in GENERATION {
        figures.extend(generate_case(bench, args, folder, case)?);
    }
    Ok(figures)
}

fn generate_case(bench: &Bench, args: &PeerArgs, folder: &Path, case: Case) -> io::Result<Vec<Figure>> {
    let Case { what, rows, at_a_time, batch_tokens, wanted } = case;
    let (peer, ceiling, shape) = (args.peer("hf_generate.py"), args.ceiling(), Shape::of(&args.model)?);
    let prompts = folder.join("prompts");
    let list = prompts.join("prompts.jsonl");
    write_prompts(&args.data, &list, rows)?;
    let params = json!({"max_new_tokens": NEW_TOKENS, "repetition_penalty": 1.2, "batch_tokens": batch_tokens});
    let inputs = vec![("model", "model", args.model.canonicalize()?), ("prompts", "prompts", prompts)];
    let stage = stage(bench, TORCH_WORKER, "generate", params, inputs, args.threads);
    let asked = format!("--n {rows} --batch {at_a_time} --new {NEW_TOKENS}");
    let (model, list) = (text(&args.model), text(&list));
    let asked: Vec<&str> = [model.as_str(), &list].into_iter().chain(asked.split(' ')).collect();
    let (mut own, mut other, mut shares) = (Times::default(), Times::default(), Times::default());
    for _ in 0..bench.rounds {
        let ran = stage.run(&folder.join("run"))?;
        let rate = number(&ran.measured, "tokens_per_second");
        own.push(rate);
        if let Some(peer) = &peer {
            other.push(number(&peer.ask(&asked)?, "tokens_per_s"));
        }
        if let Some(ceiling) = &ceiling {
            let answers: Vec<Value> = serde_json::from_slice(&fs::read(ran.out.join("answers/answers.json"))?)?;
            let sum = |name| answers.iter().map(|answer| number(answer, name)).sum::<f64>();
            let (read, new) = (sum("prompt_tokens"), sum("completion_tokens"));
            let least = least_seconds(ceiling, &shape, [read, new, new / at_a_time as f64], args.threads)?;
            shares.push(least * rate / new);
        }
    }
    let mut figures =
        vec![rates(&format!("generation, {what}, up to {NEW_TOKENS} new tokens, f32"), &own, &other, wanted)];
    figures.extend(share("its share of the floor: one read of the weights a step, and the operations", &shares, ""));
    Ok(figures)
}

/// Seconds that reading so many tokens and generating so many in so many steps takes at least: the weights are read once a
/// step, and all operations made at the rate of large products.
fn least_seconds(ceiling: &Python, shape: &Shape, [read, new, steps]: [f64; 3], threads: usize) -> io::Result<f64> {
    let can = ask_ceiling(ceiling, shape.products(512, 512, false), "f32", threads)?;
    let (blocks, head) = (shape.block_weights(), shape.head_weights());
    let operations = 2.0 * (blocks * (read + new) + head * new);
    Ok(4.0 * (blocks + head) * steps / number(&can, "bytes_per_s") + operations / number(&can, "operations_per_s"))
}

/// The first prompts of a list, as both programs read them; their inputs, where they have any, make them of mixed length.
fn write_prompts(from: &Path, to: &Path, rows: usize) -> io::Result<()> {
    let list = fs::read_to_string(from)?;
    let mut prompts = String::new();
    for line in list.lines().take(rows) {
        let row: Value = serde_json::from_str(line)?;
        let said = ["/instruction", "/text", "/turns/0"].iter().find_map(|path| row.pointer(path)?.as_str());
        let said = said.ok_or_else(|| io::Error::other("a row of the prompts has no `instruction`"))?;
        let input = row.pointer("/instances/0/input").and_then(Value::as_str).unwrap_or_default();
        prompts += &format!("{}\n", json!({"instruction": format!("{said}\n{input}").trim()}));
    }
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::write(to, prompts)
}
