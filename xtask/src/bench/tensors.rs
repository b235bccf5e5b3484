//! `bench generate` and `bench train`: the torch worker beside transformers and peft, by turns with each other and with
//! what the machine can do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Bench;
use super::peers::{PeerArgs, Python, text};
use super::shape::Shape;
use super::timing::{Figure, Times};
use super::worker::{Ran, Stage};
use crate::workspace::{BASIC_WORKER, TORCH_WORKER};

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

/// Steps and rows of a training run.
const STEPS: usize = 12;
const ROWS: usize = 8;
const LONGEST_TOKENS: usize = 256;
const TRAINING: [(&str, &str, &str); 2] = [("f32", "≥ 1.6", "≥ 75%"), ("bf16", "≥ 2.5", "≥ 55%")];

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

fn ask_ceiling(ceiling: &Python, shapes: Vec<[u64; 3]>, dtype: &str, threads: usize) -> io::Result<Value> {
    ceiling.ask(&[&json!({"threads": threads, "dtype": dtype, "shapes": shapes}).to_string()])
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

/// LoRA of rank 16 on all seven projections.
pub fn train(bench: &Bench, args: &PeerArgs, folder: &Path) -> io::Result<Vec<Figure>> {
    let tokens = tokens(bench, args, &folder.join("tokens"))?;
    let training = Training { bench, args, peer: args.peer("hf_train.py"), folder, tokens };
    let mut figures = Vec::new();
    let mut curve: Option<Vec<f64>> = None;
    for (precision, wanted, wanted_share) in TRAINING {
        let mut measured = Measured::default();
        for _ in 0..bench.rounds {
            training.round(precision, &mut measured)?;
        }
        figures.extend(measured.figures(precision, wanted, wanted_share));
        let losses = measured.losses;
        if let Some(f32_losses) = &curve {
            let most = farthest(&losses, f32_losses, |own, other| (own / other - 1.0).abs() * 100.0);
            figures.push(plain("its losses beside those of f32, farthest step", format!("{most:.2}%"), "≤ 1%"));
        }
        curve = Some(losses);
    }
    Ok(figures)
}

/// Rows of the data as the worker trains on them: those of the peer.
fn tokens(bench: &Bench, args: &PeerArgs, folder: &Path) -> io::Result<PathBuf> {
    let rows: Vec<Value> = serde_json::from_slice(&fs::read(&args.data)?)?;
    let lines: String = rows.iter().take(ROWS * STEPS).map(|row| format!("{row}\n")).collect();
    let dataset = folder.join("dataset");
    fs::create_dir_all(&dataset)?;
    fs::write(dataset.join("rows.jsonl"), lines)?;
    let params = json!({"template": "alpaca", "max_length": LONGEST_TOKENS});
    let inputs = vec![("dataset", "dataset", dataset), ("tokenizer", "model", args.model.canonicalize()?)];
    Ok(stage(bench, BASIC_WORKER, "tokenize", params, inputs, args.threads)
        .run(&folder.join("run"))?
        .out
        .join("tokens"))
}

/// What the rounds of one number format gave.
#[derive(Default)]
struct Measured {
    rate: Times,
    peer_rate: Times,
    share: Times,
    memory: Times,
    peer_memory: Times,
    first_step: Times,
    losses: Vec<f64>,
    peer_losses: Vec<f64>,
}

/// What every round of training is given.
struct Training<'a> {
    bench: &'a Bench,
    args: &'a PeerArgs,
    peer: Option<Python>,
    folder: &'a Path,
    tokens: PathBuf,
}

impl Training<'_> {
    fn round(&self, precision: &str, measured: &mut Measured) -> io::Result<()> {
        let Self { bench, args, peer, folder, tokens } = self;
        let start = folder.join("start");
        if let Some(peer) = peer {
            let asked = format!("--steps {STEPS} --alpha 0 --dtype {precision} --save-start");
            let files = [text(&args.model), text(&args.data), text(&start)];
            let said = [&files[0], &files[1]]
                .map(String::as_str)
                .into_iter()
                .chain(asked.split(' '))
                .chain([files[2].as_str()]);
            let said = peer.ask(&said.collect::<Vec<_>>())?;
            measured.peer_rate.push(number(&said, "real_tokens_per_s"));
            measured.peer_memory.push(number(&said, "peak_rss_mib"));
            measured.peer_losses = said["losses"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        }
        let mut inputs = vec![("model", "model", args.model.canonicalize()?), ("tokens", "tokens", tokens.clone())];
        inputs.extend(start.is_dir().then_some(("adapter", "adapter", start)));
        let params = json!({"steps": STEPS, "shuffle": false, "learning_rate": 2e-4, "warmup": 0, "precision": precision,
            "batch": {"size": ROWS}, "lora": {"rank": 16}});
        let ran = stage(bench, TORCH_WORKER, "train", params, inputs, args.threads).run(&folder.join("run"))?;
        let rate = number(&ran.measured, "tokens_per_second");
        measured.rate.push(rate);
        measured.memory.push(number(&ran.measured, "peak_memory_bytes") / f64::from(1 << 20));
        measured.first_step.push(ran.first_step);
        measured.losses = ran.steps.iter().map(|step| number(step, "loss")).collect();
        if let Some(ceiling) = args.ceiling() {
            let shape = Shape::of(&args.model)?;
            measured.share.push(share_of_ceiling(&ceiling, &shape, &ran, rate, precision, args.threads)?);
        }
        Ok(())
    }
}

impl Measured {
    fn figures(&self, precision: &str, wanted: &'static str, wanted_share: &'static str) -> Vec<Figure> {
        let mut figures = vec![rates(
            &format!("training, {precision}, batch {ROWS}, rank 16: real tokens"),
            &self.rate,
            &self.peer_rate,
            wanted,
        )];
        figures.extend(share("its share of the matrix-product ceiling", &self.share, wanted_share));
        figures.push(compared("its peak memory, model file included", &self.memory, &self.peer_memory, "MiB", "≤ 0.5"));
        figures.push(plain(
            "start of the worker to the end of its first step",
            self.first_step.spread(2, "s"),
            "< 2 s to its start",
        ));
        if !self.peer_losses.is_empty() {
            let most = farthest(&self.losses, &self.peer_losses, |own, other| (own - other).abs());
            let wanted = if precision == "f32" { "≤ 1e-3" } else { "" };
            figures.push(plain("per-step loss beside the peer's, farthest step", format!("{most:.5}"), wanted));
        }
        figures
    }
}

/// The operations that the work needs (forward and back to the input of every product, the head at supervised tokens
/// alone), at the rate reached, over the rate of bare products of the same shapes.
fn share_of_ceiling(
    ceiling: &Python,
    shape: &Shape,
    ran: &Ran,
    rate: f64,
    dtype: &str,
    threads: usize,
) -> io::Result<f64> {
    let sum = |name| ran.steps.iter().map(|step| number(step, name)).sum::<f64>();
    let (tokens, supervised) = (sum("tokens"), sum("supervised_tokens"));
    let each_step = |count: f64| (count / ran.steps.len() as f64).round() as u64;
    let can = ask_ceiling(ceiling, shape.products(each_step(tokens), each_step(supervised), true), dtype, threads)?;
    let needed = 4.0 * (shape.block_weights() + shape.head_weights() * supervised / tokens);
    Ok(needed * rate / number(&can, "operations_per_s"))
}

/// A stage of a worker among the binaries.
pub fn stage<'a>(
    bench: &Bench,
    program: &str,
    kind: &'a str,
    params: Value,
    inputs: Vec<(&'a str, &'a str, PathBuf)>,
    threads: usize,
) -> Stage<'a> {
    Stage { worker: bench.binaries.join(program), kind, params, inputs, threads }
}

/// A figure by its name.
pub fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or(f64::NAN)
}

fn farthest(own: &[f64], other: &[f64], distance: impl Fn(f64, f64) -> f64) -> f64 {
    own.iter().zip(other).map(|(&own, &other)| distance(own, other)).fold(0.0, f64::max)
}

/// A figure by itself.
pub fn plain(what: &str, here: String, wanted: &'static str) -> Figure {
    Figure { what: what.to_owned(), here, beside: None, ratio: None, wanted }
}

fn rates(what: &str, own: &Times, other: &Times, wanted: &'static str) -> Figure {
    compared(what, own, other, "tokens/s", wanted)
}

fn compared(what: &str, own: &Times, other: &Times, unit: &str, wanted: &'static str) -> Figure {
    let there = !other.is_empty();
    let beside = there.then(|| format!("transformers: {}", other.spread(0, unit)));
    Figure { beside, ratio: there.then(|| own.over(other)), ..plain(what, own.spread(0, unit), wanted) }
}

fn share(what: &str, shares: &Times, wanted: &'static str) -> Option<Figure> {
    (!shares.is_empty()).then(|| plain(what, format!("{:.0}%", shares.median() * 100.0), wanted))
}
