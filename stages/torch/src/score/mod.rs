//! `judge`, the part that needs tensors: how probable a model finds either label after reading two answers.
//!
//! The request, its rows and what becomes of the scores stand at [`neftpipe_protocol::scoring`]; this module knows
//! neither preferences nor win rates.

mod prompt;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use neftpipe_protocol::event::EventBody;
use neftpipe_protocol::params::JudgeParams;
use neftpipe_protocol::request::Success;
use neftpipe_protocol::scoring::{LabelScores, PAIRS_FILE, PairRow, SCORES_FILE, SCORES_OUTPUT, ScoreRow};
use neftpipe_protocol::worker::{Job, Outcome, io_failure};
use neftpipe_protocol::{ArtifactType, Failure};
use neftpipe_text::Tokenizer;
use tch::{Kind, Tensor};

use crate::device::{self, Devices};
use crate::measure;
use crate::model::{Llama, Rows};
use prompt::JudgePrompt;

/// Most tokens that are read in one pass.
const PASS_TOKENS: usize = 4096;

/// A pair with its prompts in both orders.
struct Pair {
    id: String,
    orders: [Vec<i32>; 2],
}

impl Pair {
    fn tokens(&self) -> usize {
        self.orders.iter().map(Vec::len).sum()
    }

    fn longest(&self) -> usize {
        self.orders.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// Carries out a nested request of kind `judge`.
///
/// # Errors
/// Where the model or the pairs are not what they should be, or a file cannot be written.
pub fn run(job: &Job, devices: &Devices) -> Result<Outcome, Failure> {
    let params: JudgeParams = job.params()?;
    let model = &job.input("model")?.path;
    let device = devices.choose(params.device)?;
    job.emit(EventBody::Started { device: Some(device::name(device)) });
    let prompt = JudgePrompt::new(Tokenizer::load(model)?)?;
    let llama = Llama::load(model, device, device::kind(params.precision))?;
    let rows = read_pairs(&job.request.attempt.join(PAIRS_FILE))?;
    let mut pairs = rows.iter().map(|row| encode(row, &prompt)).collect::<Result<Vec<_>, Failure>>()?;
    pairs.sort_by_key(|pair| std::cmp::Reverse((pair.longest(), pair.tokens()))); // longest first: the cut below needs it

    let mut scores = Scores::create(job)?;
    let fitting = pairs.partition_point(|pair| pair.longest() > llama.config().max_position_embeddings as usize);
    let (too_long, mut pending) = pairs.split_at(fitting);
    scores.write(too_long.iter().map(|pair| ScoreRow { id: pair.id.clone(), orders: None }))?;
    while !pending.is_empty() {
        if job.should_stop() {
            return Ok(Outcome::Interrupted);
        }
        let (pass, rest) = pending.split_at(pass_size(pending));
        scores.write(score(&llama, &prompt, pass))?;
        pending = rest;
        job.progress((pairs.len() - pending.len()) as u64, Some(pairs.len() as u64), "pairs", None);
    }
    Ok(Outcome::Succeeded(Box::new(Success {
        outputs: [(SCORES_OUTPUT.to_owned(), ArtifactType::Files)].into_iter().collect(),
        provenance: measure::provenance(job.request.threads, device),
        ..Success::default()
    })))
}

fn read_pairs(path: &Path) -> Result<Vec<PairRow>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| io_failure("read", path, &error))?;
    let parse = |(line, text): (usize, &str)| {
        serde_json::from_str(text).map_err(|e| Failure::internal(format!("{PAIRS_FILE}, row {}: {e}", line + 1)))
    };
    text.lines().enumerate().map(parse).collect()
}

fn encode(row: &PairRow, prompt: &JudgePrompt) -> Result<Pair, Failure> {
    let order = |first: &str, second: &str| prompt.encode(&row.instruction, first, second);
    let orders = [order(&row.output_1, &row.output_2)?, order(&row.output_2, &row.output_1)?];
    Ok(Pair { id: row.id.clone(), orders })
}

/// Pairs of the next pass: at least one.
fn pass_size(pending: &[Pair]) -> usize {
    let mut tokens = 0;
    let within = |pair: &&Pair| {
        tokens += pair.tokens();
        tokens <= PASS_TOKENS
    };
    pending.iter().take_while(within).count().max(1)
}

/// Scores pairs in one pass.
fn score(llama: &Llama, prompt: &JudgePrompt, pairs: &[Pair]) -> Vec<ScoreRow> {
    let _guard = tch::no_grad_guard();
    let rows = Rows::new(pairs.iter().flat_map(|pair| pair.orders.iter().map(Vec::as_slice)), llama.device());
    let hidden = llama.hidden_states(llama.embed(rows.ids()), &rows).index_select(0, &rows.last_places());
    let logprobs = llama.logits(&hidden).log_softmax(-1, Kind::Double); // [2 · pairs, V]
    let labels = Tensor::from_slice(&prompt.labels()).to_device(llama.device());
    let labels: Vec<f64> =
        Vec::try_from(logprobs.index_select(-1, &labels).flatten(0, -1)).expect("log-probabilities are numbers");
    let scores = |place: usize| LabelScores { first: labels[2 * place], second: labels[2 * place + 1] };
    let row = |(place, pair): (usize, &Pair)| ScoreRow {
        id: pair.id.clone(),
        orders: Some([scores(2 * place), scores(2 * place + 1)]),
    };
    pairs.iter().enumerate().map(row).collect()
}

/// The file of scores, whole after every write.
struct Scores {
    path: std::path::PathBuf,
    file: File,
}

impl Scores {
    fn create(job: &Job) -> Result<Self, Failure> {
        let path = job.output(SCORES_OUTPUT)?.join(SCORES_FILE);
        let file = File::create(&path).map_err(|error| io_failure("write", &path, &error))?;
        Ok(Self { path, file })
    }

    fn write(&mut self, rows: impl IntoIterator<Item = ScoreRow>) -> Result<(), Failure> {
        let lines: String =
            rows.into_iter().map(|row| serde_json::to_string(&row).expect("scores serialise") + "\n").collect();
        self.file.write_all(lines.as_bytes()).map_err(|error| io_failure("write", &self.path, &error))
    }
}
