//! What is said of the tokens besides the tokens: figures, warnings, and whether there are any to train on.

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::{Metrics, TokensInfo};
use neftpipe_protocol::params::TokenizeParams;
use neftpipe_protocol::worker::Job;
use serde_json::Value;

use super::sift::NO_TRAINED_TOKEN;

/// Refuses a training split without rows.
///
/// # Errors
/// Says where the rows went.
pub fn require_training_rows(params: &TokenizeParams, info: &TokensInfo) -> Result<(), Failure> {
    if info.train.rows > 0 {
        return Ok(());
    }
    let mut gone: Vec<String> =
        info.dropped.iter().map(|(reason, rows)| format!("{rows} dropped ({reason})")).collect();
    if info.heldout.rows > 0 {
        gone.push(format!("{} held out (holdout {})", info.heldout.rows, params.holdout));
    }
    Err(Failure::data(format!("no row is left to train on: {}", gone.join(", ")))
        .with_hint("take a larger dataset, a smaller `holdout` or a larger `max_length`"))
}

/// Warns of what a person should know before training on the tokens.
pub fn warn(job: &Job, params: &TokenizeParams, info: &TokensInfo, trained_prompts: u64) {
    let (train, heldout) = (&info.train, &info.heldout);
    let truncated = train.truncated_rows + heldout.truncated_rows;
    if truncated > 0 {
        job.warn(
            "truncated_rows",
            format!(
                "{truncated} of {} rows are longer than max_length {} and were cut; the longest has {} tokens",
                train.rows + heldout.rows,
                info.max_length_tokens,
                train.longest_tokens.max(heldout.longest_tokens)
            ),
        );
    }
    if let Some(rows) = info.dropped.get(NO_TRAINED_TOKEN) {
        job.warn(
            NO_TRAINED_TOKEN,
            format!("{rows} rows were dropped: their answers lie beyond max_length {}", info.max_length_tokens),
        );
    }
    if params.holdout > 0.0 && heldout.groups == 0 {
        let groups = train.groups;
        job.warn("nothing_held_out", format!("holdout {} of {groups} groups came to none", params.holdout));
    }
    if trained_prompts < params.trained {
        job.warn(
            "few_trained_prompts",
            format!("{} trained-on prompts were asked for; there are {trained_prompts}", params.trained),
        );
    }
}

/// Warns of rows that the evaluation asks in the same words, and that were not asked to be dropped.
pub fn warn_of_near(job: &Job, rows: u64) {
    if rows > 0 {
        let (noun, them) = if rows == 1 { ("row asks", "it") } else { ("rows ask", "them") };
        job.warn(
            "nearly_contaminated",
            format!(
                "{rows} more {noun} what prompts of `exclude` ask, but for case, punctuation or white space: \
                 `contamination: {{ text: normalised }}` drops {them} too"
            ),
        );
    }
}

/// Figures of both splits.
pub fn metrics(info: &TokensInfo, heldout_prompts: usize, trained_prompts: usize) -> Metrics {
    let mut metrics = Metrics::new();
    for (prefix, split) in [("", &info.train), ("heldout_", &info.heldout)] {
        let counts = [
            ("rows", split.rows),
            ("groups", split.groups),
            ("tokens", split.tokens),
            ("trained_tokens", split.trained_tokens),
            ("truncated_rows", split.truncated_rows),
            ("longest_tokens", split.longest_tokens),
            ("split_conversations", split.split_conversations),
        ];
        metrics.extend(counts.map(|(name, count)| (format!("{prefix}{name}"), Value::from(count))));
    }
    metrics.insert("heldout_prompts".to_owned(), heldout_prompts.into());
    metrics.insert("trained_prompts".to_owned(), trained_prompts.into());
    metrics.insert("dropped_rows".to_owned(), info.dropped.values().sum::<u64>().into());
    metrics.extend(info.dropped.iter().map(|(reason, &rows)| (format!("dropped_{reason}"), Value::from(rows))));
    metrics
}

/// How fast it went.
pub fn rate(info: &TokensInfo, seconds: f64) -> Metrics {
    let tokens = (info.train.tokens + info.heldout.tokens) as f64;
    [("tokens_per_s".to_owned(), Value::from((tokens / seconds).round()))].into_iter().collect()
}
