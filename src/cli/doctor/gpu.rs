//! `neftpipe doctor --gpu`: whether the device that trains here computes what it should, and what it can hold.
//!
//! Each trial is a process of its own, so that its memory is its own and two runs have nothing in common but the question.
//! What is told of sizes and rows stands here; how a trial is carried out is the worker's.

use clap::ValueEnum;
use neftpipe_protocol::params::{Device, Precision, TrainParams};
use neftpipe_protocol::question::{Question, Trial, Tried};
use neftpipe_protocol::training::{ModelShape, RowLengths};
use neftpipe_protocol::{Failure, FailureClass};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::{CliError, CliResult, Context};
use crate::exec::{Machine, Workers};
use crate::exit::Exit;
use crate::ui::printer::{BAD, GOOD, styled};
use crate::ui::table::bytes;

/// Steps of the trials whose losses are compared.
const COMPARED_STEPS: u64 = 20;
/// Tokens of the rows of those: unlike lengths, one of them no multiple of anything.
const COMPARED_ROWS: [u64; 8] = [64, 17, 48, 5, 33, 64, 26, 40];
/// Tokens of every row of a size that is measured, and rows a step.
const MEASURED_ROW_TOKENS: u64 = 512;
const MEASURED_ROWS: usize = 8;
/// Rows that go through the model together: so much that a GPU is busy, so few that 3B in bf16 fits into 24 GB.
const MEASURED_MICRO: u64 = 4;
/// Steps of a size that is measured; two of them warm up.
const MEASURED_STEPS_GPU: u64 = 12;
const MEASURED_STEPS_CPU: u64 = 3;

/// A model to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// The model that the other checks train: a second.
    Tiny,
    /// Llama 3.2 1B.
    #[value(name = "1b")]
    #[serde(rename = "1b")]
    Llama1b,
    /// Llama 3.2 3B.
    #[value(name = "3b")]
    #[serde(rename = "3b")]
    Llama3b,
}

/// How far losses may be from those of the CPU in f32, as a share: sums in another order there, rounded weights here.
fn allowed_difference(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-3,
        Precision::Bf16 => 1e-2,
    }
}

fn name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    passed: bool,
    device: String,
    formats: Vec<Compared>,
    sizes: Vec<Measured>,
}

/// A number format on the device, beside f32 on the CPU and beside itself.
#[derive(Debug, Serialize)]
struct Compared {
    precision: Precision,
    steps: u64,
    /// The greatest difference of a step's loss from the CPU's, as a share of it.
    largest_difference: f64,
    allowed_difference: f64,
    repeats: bool,
}

/// What training a size took.
#[derive(Debug, Serialize)]
struct Measured {
    size: Size,
    precision: Precision,
    tokens_per_second: Option<f64>,
    peak_memory_bytes: Option<u64>,
    told_memory_bytes: u64,
    error: Option<String>,
}

pub(super) fn run(context: &Context, sizes: &[Size], precision: Precision) -> CliResult {
    let bench = Bench {
        workers: Workers::new(crate::env::workers(), context.root_here()?.join("workers.json")),
        threads: Machine::detect(None).cpus as usize,
        context,
    };
    let report = bench.examine(sizes, precision)?;
    if context.printer.is_json() {
        context.printer.json(&report)?;
    } else {
        context.printer.line(report.text().trim_end())?;
    }
    Ok(if report.passed { Exit::Success } else { Exit::Environment })
}

/// Where trials are asked for.
struct Bench<'a> {
    context: &'a Context,
    workers: Workers,
    threads: usize,
}

impl Bench<'_> {
    fn examine(&self, sizes: &[Size], precision: Precision) -> Result<Report, CliError> {
        self.context.printer.note("training a tiny model on the CPU and on the device that `auto` takes");
        let cpu = self.small(Device::Cpu, Precision::F32)?;
        let mut device = String::new();
        let mut formats = Vec::new();
        for precision in [Precision::F32, Precision::Bf16] {
            let runs = [self.small(Device::Auto, precision)?, self.small(Device::Auto, precision)?];
            formats.push(Compared::new(precision, &cpu, &runs));
            device.clone_from(&runs[0].device);
        }
        let on_gpu = device != cpu.device;
        let usual: &[Size] = if on_gpu { &[Size::Llama1b, Size::Llama3b] } else { &[] };
        let sizes = if sizes.is_empty() { usual } else { sizes };
        let sizes = sizes.iter().map(|&size| self.measure(size, precision, on_gpu)).collect::<Result<Vec<_>, _>>()?;
        let passed = formats.iter().all(Compared::passed) && sizes.iter().all(|size| size.error.is_none());
        Ok(Report { version: 1, passed, device, formats, sizes })
    }

    fn small(&self, device: Device, precision: Precision) -> Result<Tried, Failure> {
        let params = json!({"steps": COMPARED_STEPS, "learning_rate": 1e-2, "device": device,
            "precision": precision, "neft": {"alpha": 5}});
        self.ask(Size::Tiny, params, COMPARED_ROWS.to_vec())
    }

    /// Trains a size; that it cannot be is what was found, and no reason not to look at the next.
    fn measure(&self, size: Size, precision: Precision, on_gpu: bool) -> Result<Measured, CliError> {
        self.context
            .printer
            .note(format!("training {}, {MEASURED_ROWS} rows of {MEASURED_ROW_TOKENS} tokens", size.name()));
        let steps = if on_gpu { MEASURED_STEPS_GPU } else { MEASURED_STEPS_CPU };
        let params = json!({"steps": steps, "precision": precision,
            "batch": {"size": MEASURED_ROWS, "micro": MEASURED_MICRO}, "lora": {"rank": 16}});
        let told = told_bytes(size, &params);
        let tried = match self.ask(size, params, vec![MEASURED_ROW_TOKENS; MEASURED_ROWS]) {
            Err(failure) if failure.class == FailureClass::Usage => return Err(failure.into()),
            tried => tried,
        };
        let (tried, error) = match tried {
            Ok(tried) => (Some(tried), None),
            Err(failure) => (None, Some(failure.message)),
        };
        Ok(Measured {
            size,
            precision,
            tokens_per_second: tried.as_ref().and_then(|tried| tried.tokens_per_second),
            peak_memory_bytes: tried.and_then(|tried| tried.peak_memory_bytes),
            told_memory_bytes: told,
            error,
        })
    }

    fn ask(&self, size: Size, params: Value, row_tokens: Vec<u64>) -> Result<Tried, Failure> {
        // Products so small are faster on one thread.
        let threads = if size == Size::Tiny { 1 } else { self.threads };
        let trial = Trial { config: size.config(), params: train_params(params), row_tokens, threads };
        self.workers.ask_torch(&Question::Try(Box::new(trial)))
    }
}

/// What `plan` says beforehand of training this.
fn told_bytes(size: Size, params: &Value) -> u64 {
    let shape: ModelShape = serde_json::from_value(size.config()).expect("a size is the shape of a Llama");
    let rows = RowLengths { longest: MEASURED_ROW_TOKENS, mean: MEASURED_ROW_TOKENS as f64 };
    shape.training_bytes(&train_params(params.clone()), rows)
}

fn train_params(params: Value) -> TrainParams {
    serde_json::from_value(params).expect("these are parameters of `train`")
}

impl Size {
    fn name(self) -> &'static str {
        match self {
            Self::Tiny => "the tiny model",
            Self::Llama1b => "Llama 3.2 1B",
            Self::Llama3b => "Llama 3.2 3B",
        }
    }

    /// Its `config.json`.
    fn config(self) -> Value {
        let sizes = |vocabulary, hidden, inner, layers, heads, keys, dim| {
            json!({"model_type": "llama", "vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": inner,
                "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": keys, "head_dim": dim,
                "rms_norm_eps": 1e-5, "max_position_embeddings": 131_072, "tie_word_embeddings": true,
                "rope_theta": 500_000.0, "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})
        };
        match self {
            Self::Tiny => sizes(512, 128, 352, 4, 4, 2, 32),
            Self::Llama1b => sizes(128_256, 2048, 8192, 16, 32, 8, 64),
            Self::Llama3b => sizes(128_256, 3072, 8192, 28, 24, 8, 128),
        }
    }
}

impl Compared {
    fn new(precision: Precision, cpu: &Tried, runs: &[Tried; 2]) -> Self {
        let share = |(found, wanted): (&f64, &f64)| ((found - wanted) / wanted).abs();
        let shares = runs[0].losses.iter().zip(&cpu.losses).map(share);
        // A loss that is no number is as far away as can be.
        let largest = shares.map(|it| if it.is_nan() { f64::MAX } else { it }).fold(0.0, f64::max);
        Self {
            precision,
            steps: runs[0].losses.len() as u64,
            largest_difference: largest,
            allowed_difference: allowed_difference(precision),
            repeats: runs[0].adapter == runs[1].adapter && runs[0].losses == runs[1].losses,
        }
    }

    fn agrees(&self) -> bool {
        self.steps == COMPARED_STEPS && self.largest_difference <= self.allowed_difference
    }

    fn passed(&self) -> bool {
        self.agrees() && self.repeats
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = match self.device.as_str() {
            "cpu" => "device   cpu: there is no GPU here, so this says how the CPU computes\n\n".to_owned(),
            gpu => format!("device   {gpu}\n\n"),
        };
        let mark = |passed| if passed { styled(GOOD, "ok") } else { styled(BAD, "failed") };
        for it in &self.formats {
            let (format, steps) = (name(it.precision), it.steps);
            let (found, allowed) = (1e2 * it.largest_difference, 1e2 * it.allowed_difference);
            let (agrees, repeats) = (mark(it.agrees()), mark(it.repeats));
            text += &format!(
                "{agrees} {format}: losses of {steps} steps within {found:.4}% of the CPU's in f32 ({allowed}% is allowed)\n"
            );
            let same = if it.repeats { "gave the same bytes" } else { "did not give the same bytes" };
            text += &format!("{repeats} {format}: two runs {same}\n");
        }
        for it in &self.sizes {
            let (size, format) = (it.size.name(), name(it.precision));
            let what = format!("LoRA of {size}, {format}, {MEASURED_ROWS} rows of {MEASURED_ROW_TOKENS} tokens");
            text += &match &it.error {
                Some(error) => format!("{} {what}: {error}\n", mark(false)),
                None => format!("{} {what}: {}\n", mark(true), it.figures()),
            };
        }
        if self.sizes.is_empty() {
            text += "\nThe sizes 1b and 3b were not measured: on a CPU they take minutes, `--size 1b` does it.\n";
        }
        text
    }
}

impl Measured {
    fn figures(&self) -> String {
        let rate = self.tokens_per_second.map_or("?".to_owned(), |rate| format!("{rate:.0}"));
        let peak = self.peak_memory_bytes.map_or("?".to_owned(), bytes);
        format!("{rate} tokens/s, {peak} of memory at the peak; `plan` says {}", bytes(self.told_memory_bytes))
    }
}
