//! `tokenize`: rows of a dataset become token ids with a loss mask, split by whole groups into trained and held-out rows.
//!
//! Outputs: `tokens` (both splits), `heldout` and `trained` (prompts with references, of groups kept out of training and of
//! groups trained on). It knows texts and ids, not what a model does with them.

mod account;
mod contamination;
mod encode;
mod holdout;
mod output;
mod prompts;
mod question;
mod sift;
mod splits;
mod turns;

use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use neftpipe_protocol::artifact::{DatasetRow, PromptRow, TokensInfo};
use neftpipe_protocol::params::TokenizeParams;
use neftpipe_protocol::request::Success;
use neftpipe_protocol::worker::{Job, Outcome, io_failure, provenance};
use neftpipe_protocol::{ArtifactType, Failure};
use neftpipe_text::{Renderer, TextError, Tokenizer};
use serde_json::Value;

use self::contamination::Asked;
use self::encode::Encoder;
use self::holdout::Holdout;
use self::sift::{Dropped, Row};
use self::splits::Splits;
use crate::jsonl;

/// Carries out one `tokenize` stage.
///
/// # Errors
/// A longest length beyond the model's window (usage), no row to train on or a row that does not fit the template (data).
pub fn execute(job: &Job) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let params: TokenizeParams = job.params()?;
    let model = &job.input("tokenizer")?.path;
    check_window(model, params.max_length)?;
    let tokenizer = Tokenizer::load(model)?;
    let renderer = Renderer::new(&params.template, &params.date_string, &tokenizer)?;
    let eos_token_id = tokenizer.eos_token_id().ok_or(TextError::NoSpecialToken("end"))?;

    let mut dropped = Dropped::new();
    let rows = read_rows(job, &params, &mut dropped)?;
    let encoder = Encoder { tokenizer: &tokenizer, renderer: &renderer, max_length_tokens: params.max_length as usize };
    let holdout = Holdout { fraction: params.holdout, seed: params.seed };
    let Some(splits) = Splits::encode(job, &encoder, &rows, holdout, &mut dropped)? else {
        return Ok(Outcome::Interrupted);
    };

    let info = TokensInfo {
        template: params.template.clone(),
        date_string: params.date_string.clone(),
        max_length_tokens: params.max_length,
        eos_token_id,
        train: splits.train.info(),
        heldout: splits.heldout.info(),
        dropped,
    };
    account::require_training_rows(&params, &info)?;
    let heldout = splits.heldout_prompts();
    let trained = splits.trained_prompts(params.trained);
    output::write_tokens(job, &tokenizer, &splits, &info)?;
    output::write_prompts(job, "heldout", &heldout)?;
    output::write_prompts(job, "trained", &trained)?;
    account::warn(job, &params, &info, trained.len() as u64);

    Ok(Outcome::Succeeded(Box::new(Success {
        outputs: [
            ("tokens".to_owned(), ArtifactType::Tokens),
            ("heldout".to_owned(), ArtifactType::Prompts),
            ("trained".to_owned(), ArtifactType::Prompts),
        ]
        .into_iter()
        .collect(),
        metrics: account::metrics(&info, heldout.len(), trained.len()),
        measured: account::rate(&info, started.elapsed().as_secs_f64()),
        provenance: provenance(crate::NAME, crate::VERSION, job.request.threads),
        resolved: None,
    })))
}

/// Refuses rows longer than what the model has positions for. A model that does not say has no limit.
fn check_window(model: &Path, max_length: u64) -> Result<(), Failure> {
    let path = model.join("config.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_failure("read", &path, &error)),
    };
    let config: Value =
        serde_json::from_slice(&text).map_err(|error| Failure::data(format!("{}: {error}", path.display())))?;
    match config["max_position_embeddings"].as_u64() {
        Some(window) if max_length > window => Err(Failure::usage(format!(
            "max_length {max_length} is over the model's window of {window} tokens (max_position_embeddings)"
        ))
        .with_hint(format!("say `max_length: {window}` or less"))),
        _ => Ok(()),
    }
}

fn read_rows(job: &Job, params: &TokenizeParams, dropped: &mut Dropped) -> Result<Vec<Row>, Failure> {
    let contents: Vec<DatasetRow> = jsonl::read(&job.input("dataset")?.path.join("rows.jsonl"))?;
    if contents.is_empty() {
        return Err(Failure::data("the dataset is empty: there is no row to tokenise"));
    }
    let mut rows: Vec<Row> =
        contents.into_iter().enumerate().map(|(index, content)| Row { line: index + 1, content }).collect();
    if params.deduplicate {
        sift::drop_duplicates(&mut rows, dropped);
    }
    if let Some(exclude) = exclude(job, params)? {
        let near = sift::drop_contaminated(&mut rows, &Asked::new(&exclude, params.contamination), dropped);
        account::warn_of_near(job, near);
    }
    Ok(rows)
}

/// The prompts whose questions are dropped, where that is asked for.
fn exclude(job: &Job, params: &TokenizeParams) -> Result<Option<Vec<PromptRow>>, Failure> {
    match (params.decontaminate, job.optional_input("exclude")) {
        (true, Some(input)) => jsonl::read(&input.path.join("prompts.jsonl")).map(Some),
        (true, None) => Err(Failure::usage("decontaminate needs the prompts to keep out of training")
            .with_hint("name their stage in `needs: { exclude: … }`")),
        (false, Some(_)) => {
            job.warn("exclude_unused", "the input `exclude` has no effect without `decontaminate: true`");
            Ok(None)
        }
        (false, None) => Ok(None),
    }
}
