//! `generate`: a model, perhaps with an adapter, answers prompts.
//!
//! Here stands the course of the stage; how tokens are decoded is in [`decoding`], how they are chosen in [`sampling`].

mod answers;
pub mod decoding;
mod prompts;
pub mod sampling;
mod style;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use neftpipe_protocol::artifact::Metrics;
use neftpipe_protocol::event::EventBody;
use neftpipe_protocol::params::{GenerateParams, Precision};
use neftpipe_protocol::request::{Input, Success};
use neftpipe_protocol::worker::{Job, Outcome, write_json};
use neftpipe_protocol::{ArtifactType, Failure};
use neftpipe_text::{Renderer, Tokenizer};
use serde_json::json;
use tch::Device;

use crate::device::{self, Devices};
use crate::model::{Llama, LlamaConfig};
use crate::{lora, measure};
use answers::{Answer, Answers, SavedAnswer};
use decoding::{Continuation, Prompt, Settings};
use prompts::{Question, RowKeys};
use sampling::Sampling;
use style::Style;

/// Name of the output, and with `.json` of its file.
const OUTPUT: &str = "answers";
/// Answers that are shown as they come.
const SAMPLES: usize = 3;

/// Carries out a request of kind `generate`.
///
/// # Errors
/// Where the inputs do not fit together, a prompt leaves no room to generate, or a file cannot be written.
pub fn run(job: &Job, devices: &Devices) -> Result<Outcome, Failure> {
    let params: GenerateParams = job.params()?;
    let (model, adapter) = (job.input("model")?, job.optional_input("adapter"));
    let device = devices.choose(params.device)?;
    job.emit(EventBody::Started { device: Some(device::name(device)) });
    let tokenizer = Tokenizer::load(&model.path)?;
    let config = LlamaConfig::load(&model.path)?;
    let renderer = renderer(job, &params, model, adapter, &tokenizer)?;
    let keys = RowKeys::new(model.digest, adapter.map(|input| input.digest), &params);
    let rows = prompts::read(&job.input("prompts")?.path)?;
    let questions = prompts::prepare(rows, &renderer, &tokenizer, config.max_position_embeddings, &keys)?;

    let answers = Answers::known(job.known_rows()?, &questions);
    let reused = questions.iter().filter(|question| answers.has(question)).count();
    let open = first_of_each(questions.iter().filter(|question| !answers.has(question)));
    let mut work = Work { job, tokenizer: &tokenizer, open, answers, reused, rows: 0, tokens: 0, time: Duration::ZERO };
    if !work.open.is_empty() {
        let llama = load(&params, model, adapter, device)?;
        if !work.answer(&llama, &settings(&params, &tokenizer), params.seed)? {
            return Ok(Outcome::Interrupted);
        }
    }
    let generator = params.generator.clone().unwrap_or_else(|| generator(&config, model, adapter));
    let rows = work.answers.rows(&questions, &generator);
    write_json(&job.output(OUTPUT)?.join("answers.json"), &rows)?;
    Ok(Outcome::Succeeded(Box::new(Success {
        outputs: [(OUTPUT.to_owned(), ArtifactType::Answers)].into_iter().collect(),
        metrics: answers::metrics(&rows),
        measured: work.measured(device),
        provenance: measure::provenance(job.request.threads, device),
        resolved: None,
    })))
}

/// The template made ready; what does not fit the training is warned of.
fn renderer(
    job: &Job,
    params: &GenerateParams,
    model: &Input,
    adapter: Option<&Input>,
    tokenizer: &Tokenizer,
) -> Result<Renderer, Failure> {
    let trained = style::trained_how(&adapter.unwrap_or(model).path)?;
    let style = Style::choose(params, trained.as_ref(), tokenizer.chat_template().is_some());
    if let Some(info) = &trained {
        let other_base = adapter.and_then(|_| style::other_base(info, model.digest));
        for (code, message) in style.mismatches(info).into_iter().chain(other_base) {
            job.warn(code, message);
        }
    }
    Ok(Renderer::new(&style.template, &style.date, tokenizer)?)
}

/// The model with its adapter. In f32 the adapter is added to the weights, which costs nothing afterwards; in bf16 that
/// would round small updates away, so it is computed beside them, unless it has masks: their product is too dear for every token.
fn load(params: &GenerateParams, model: &Input, adapter: Option<&Input>, device: Device) -> Result<Llama, Failure> {
    let mut llama = Llama::load(&model.path, device, device::kind(params.precision))?;
    if let Some(adapter) = adapter {
        let found = lora::attach(&adapter.path, &mut llama)?;
        if params.precision == Precision::F32 || found.sparse {
            lora::merge(&mut llama);
        }
    }
    Ok(llama)
}

fn settings(params: &GenerateParams, tokenizer: &Tokenizer) -> Settings {
    Settings {
        max_new_tokens: params.max_new_tokens as usize,
        end_tokens: tokenizer.eos_token_ids().to_vec(),
        sampling: Sampling::from(params),
        batch_tokens: params.batch_tokens as usize,
    }
}

/// Equal questions are answered once.
fn first_of_each<'a>(questions: impl Iterator<Item = &'a Question>) -> Vec<&'a Question> {
    let mut seen = HashSet::new();
    questions.filter(|question| seen.insert(question.key.as_str())).collect()
}

/// The open questions at work.
struct Work<'a> {
    job: &'a Job,
    tokenizer: &'a Tokenizer,
    open: Vec<&'a Question>,
    answers: Answers,
    /// Rows whose answers were known.
    reused: usize,
    /// Questions answered here.
    rows: usize,
    /// Tokens generated here.
    tokens: u64,
    /// Time that took.
    time: Duration,
}

impl Work<'_> {
    /// Answers the open questions. Returns false where it was told to stop.
    fn answer(&mut self, llama: &Llama, settings: &Settings, seed: u64) -> Result<bool, Failure> {
        let prompts = self.open.iter().enumerate().map(|(index, question)| Prompt {
            index,
            ids: question.ids.clone(),
            random: sampling::stream(seed, &question.text),
        });
        let (prompts, job) = (prompts.collect(), self.job);
        let start = Instant::now();
        let whole = decoding::continue_all(llama, prompts, settings, |row| self.finish(row), || job.should_stop());
        self.time = start.elapsed();
        whole
    }

    /// Saves an answer as it ends.
    fn finish(&mut self, Continuation { index, ids, ended }: Continuation) -> Result<(), Failure> {
        let question = self.open[index];
        let answer = Answer {
            output: self.tokenizer.decode(&ids)?,
            finish_reason: if ended { "stop" } else { "length" }.to_owned(),
            prompt_tokens: question.ids.len() as u64,
            completion_tokens: ids.len() as u64,
        };
        let saved = SavedAnswer { key: question.key.clone(), answer };
        self.job.save_row(&serde_json::to_value(&saved).expect("answers serialise"))?;
        if self.rows < SAMPLES {
            let value = json!({"instruction": question.row.instruction, "output": saved.answer.output});
            self.job.emit(EventBody::Sample { value });
        }
        self.answers.add(saved);
        self.rows += 1;
        self.tokens += ids.len() as u64;
        let total = self.reused + self.open.len();
        self.job.progress((self.reused + self.rows) as u64, Some(total as u64), "rows", None);
        Ok(())
    }

    fn measured(&self, device: Device) -> Metrics {
        let mut measured = Metrics::new();
        measured.insert("rows_reused".to_owned(), json!(self.reused));
        if self.tokens > 0 {
            measured.insert("tokens_per_second".to_owned(), json!(self.tokens as f64 / self.time.as_secs_f64()));
        }
        if let Some(bytes) = measure::peak_memory_bytes(device) {
            measured.insert("peak_memory_bytes".to_owned(), json!(bytes));
        }
        measured
    }
}

/// The model's own name, or else its digest, and the adapter's digest.
fn generator(config: &LlamaConfig, model: &Input, adapter: Option<&Input>) -> String {
    let name = config.name.clone().unwrap_or_else(|| format!("model-{}", model.digest.short()));
    match adapter {
        Some(adapter) => format!("{name}+{}", adapter.digest.short()),
        None => name,
    }
}
