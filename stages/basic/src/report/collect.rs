//! Reads training runs and answers, each at its place in the report; [`super::verdicts`] adds what was judged.
//!
//! It knows the files of artifacts, not what is made of their figures.

use std::collections::{BTreeMap, HashMap};

use neftpipe_protocol::artifact::{AnswerRow, TrainMetrics, TrainStep};
use neftpipe_protocol::params::ReportParams;
use neftpipe_protocol::request::Input;
use neftpipe_protocol::{Digest, Failure};

use super::files::{malformed, read_json, read_lines, read_optional_json};
use super::lineage::{Origins, Role};
use super::measures::measure_answer;
use super::place::{Place, place};
use super::verdicts::Judgement;

/// A training run.
pub struct Run {
    /// Where it stands.
    pub place: Place,
    /// The instance.
    pub stage: String,
    /// A line an optimizer step; empty where the run was not trained here.
    pub steps: Vec<TrainStep>,
    /// What it came to, where it was trained here.
    pub metrics: Option<TrainMetrics>,
    /// The tokens it was trained on, where known.
    pub tokens: Option<Digest>,
}

/// Answers of one model to a list of prompts. Lists run in parallel.
pub struct AnswerSet {
    /// Where it stands.
    pub place: Place,
    /// The instance.
    pub stage: String,
    /// The axes of the instance, for verdicts without lineage.
    pub input: Input,
    /// What the prompts are to the training rows.
    pub role: Role,
    /// Whether they were decoded greedily, where known.
    pub is_greedy: Option<bool>,
    /// The answers.
    pub rows: Vec<AnswerRow>,
    /// A name for each row's prompt, the same in all sets that answer it.
    pub prompts: Vec<String>,
    /// Measures of each row by name.
    pub measures: Vec<BTreeMap<String, f64>>,
    /// What judges preferred.
    pub judgements: Vec<Judgement>,
}

/// Reads the slot `train`.
///
/// # Errors
/// Where a file is not what an adapter promises.
pub fn read_run(input: &Input, params: &ReportParams, origins: &Origins<'_>) -> Result<Run, Failure> {
    let metrics: Option<TrainMetrics> = read_optional_json(input, "metrics.json")?;
    if let Some(metrics) = &metrics {
        check_probe(input, "train", metrics.probe_train_rows.len(), metrics.probe_train_losses.len())?;
        check_probe(input, "heldout", metrics.probe_heldout_rows.len(), metrics.probe_heldout_losses.len())?;
    }
    Ok(Run {
        place: place(input, params),
        stage: input.stage.clone(),
        steps: read_lines(input, "steps.jsonl")?,
        metrics,
        tokens: origins.tokens(input),
    })
}

fn check_probe(input: &Input, split: &str, rows: usize, losses: usize) -> Result<(), Failure> {
    if rows == losses {
        return Ok(());
    }
    Err(malformed(input, "metrics.json", format!("the probe of {split} has {rows} rows and {losses} losses")))
}

/// Reads the slot `answers`.
///
/// # Errors
/// Where the file is not a list of answers.
pub fn read_answers(input: &Input, params: &ReportParams, origins: &Origins<'_>) -> Result<AnswerSet, Failure> {
    let rows: Vec<AnswerRow> = read_json(input, "answers.json")?;
    Ok(AnswerSet {
        place: place(input, params),
        stage: input.stage.clone(),
        input: input.clone(),
        role: origins.role(input),
        is_greedy: origins.is_greedy(input),
        measures: rows.iter().map(measure_answer).collect(),
        prompts: prompt_names(rows.iter().map(|row| (row.instruction.as_str(), row.input.as_str()))),
        rows,
        judgements: Vec::new(),
    })
}

/// The prompt in one text, as AlpacaEval's files have it; where a prompt comes again its count is added.
pub fn prompt_names<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let name = |(instruction, input): (&str, &str)| {
        let text = if input.is_empty() { instruction.to_owned() } else { format!("{instruction}\n\n{input}") };
        let times = seen.entry(text.clone()).and_modify(|times| *times += 1).or_insert(1);
        if *times == 1 { text } else { format!("{text}\u{0}{times}") }
    };
    rows.map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_named_as_one_text() {
        let rows = [("say", ""), ("say", "it"), ("say\n\nit", ""), ("say", "")];
        assert_eq!(prompt_names(rows.into_iter()), ["say", "say\n\nit", "say\n\nit\u{0}2", "say\u{0}2"]);
    }
}
