//! `bench train`: LoRA training of the torch worker beside transformers and peft, by turns with each other and with what the
//! machine can do; and what a worker takes to begin, and to go on from a checkpoint.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Bench;
use super::figure::{Figure, compared, plain, rates, share};
use super::peers::{PeerArgs, Python, ask_ceiling, text};
use super::shape::Shape;
use super::timing::Times;
use super::worker::{Ran, Stage, number, stage};
use crate::workspace::{BASIC_WORKER, TORCH_WORKER};

/// Steps and rows of a training run.
const STEPS: usize = 12;
const ROWS: usize = 8;
const LONGEST_TOKENS: usize = 256;
/// Steps of a segment where nothing else is said, and the step at which a run is cut here.
const SEGMENT_STEPS: f64 = 25.0;
const CUT: usize = STEPS / 2;
const TRAINING: [(&str, &str, &str); 2] = [("f32", "≥ 1.6", "≥ 75%"), ("bf16", "≥ 2.5", "≥ 55%")];

/// LoRA of rank 16 on all seven projections.
pub fn train(bench: &Bench, args: &PeerArgs, folder: &Path) -> io::Result<Vec<Figure>> {
    let tokens = tokens(bench, args, &folder.join("tokens"))?;
    let model = args.model.canonicalize()?;
    let training = Training { bench, args, peer: args.peer("hf_train.py"), folder, model, tokens };
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
    begin: Times,
    first_step: Times,
    boundary: Times,
    losses: Vec<f64>,
    peer_losses: Vec<f64>,
}

/// What every round of training is given.
struct Training<'a> {
    bench: &'a Bench,
    args: &'a PeerArgs,
    peer: Option<Python>,
    folder: &'a Path,
    model: PathBuf,
    tokens: PathBuf,
}

impl Training<'_> {
    fn round(&self, precision: &str, measured: &mut Measured) -> io::Result<()> {
        let Self { args, peer, folder, .. } = self;
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
        let ran = self.stage(precision).run(&folder.join("run"))?;
        let rate = number(&ran.measured, "tokens_per_second");
        measured.rate.push(rate);
        measured.memory.push(number(&ran.measured, "peak_memory_bytes") / f64::from(1 << 20));
        measured.begin.push(ran.first_step_began());
        measured.first_step.push(ran.first_step_ended());
        measured.losses = ran.steps.iter().map(|step| number(step, "loss")).collect();
        if let Some(ceiling) = args.ceiling() {
            let shape = Shape::of(&args.model)?;
            measured.share.push(share_of_ceiling(&ceiling, &shape, &ran, rate, precision, args.threads)?);
        }
        self.cut(precision, &ran, measured)
    }

    /// What a boundary between two segments takes, in parts of a segment: saving, and what a process of its own takes more for
    /// the second segment than the process that goes on.
    fn cut(&self, precision: &str, whole: &Ran, measured: &mut Measured) -> io::Result<()> {
        let first = Stage { checkpoints: vec![CUT], ..self.stage(precision) }.run(&self.folder.join("first"))?;
        let second =
            Stage { known: Some(first.attempt.clone()), ..self.stage(precision) }.run(&self.folder.join("second"))?;
        let (begun, saved) = first.saved();
        let taken = saved - begun + second.seconds - (first.seconds - saved);
        measured.boundary.push(100.0 * taken / (SEGMENT_STEPS * whole.seconds_a_step()));
        Ok(())
    }

    /// The worker's training, from the peer's adapter where there is one.
    fn stage(&self, precision: &str) -> Stage<'_> {
        let Self { bench, args, folder, tokens, .. } = self;
        let start = folder.join("start");
        let mut inputs = vec![("model", "model", self.model.clone()), ("tokens", "tokens", tokens.clone())];
        inputs.extend(start.is_dir().then_some(("adapter", "adapter", start)));
        let params = json!({"steps": STEPS, "shuffle": false, "learning_rate": 2e-4, "warmup": 0, "precision": precision,
            "batch": {"size": ROWS}, "lora": {"rank": 16}});
        stage(bench, TORCH_WORKER, "train", params, inputs, args.threads)
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
        figures.push(plain("start of the worker to its first step", self.begin.spread(2, "s"), "< 2 s"));
        figures.push(plain("start of the worker to the end of that step", self.first_step.spread(2, "s"), ""));
        let boundary = format!("a boundary between segments of {SEGMENT_STEPS} steps, the second by another process");
        figures.push(plain(&boundary, self.boundary.spread(1, "%"), "≤ 5%"));
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

fn farthest(own: &[f64], other: &[f64], distance: impl Fn(f64, f64) -> f64) -> f64 {
    own.iter().zip(other).map(|(&own, &other)| distance(own, other)).fold(0.0, f64::max)
}
