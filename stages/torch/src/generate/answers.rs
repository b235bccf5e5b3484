//! Answers as rows: what is saved of each as it ends, AlpacaEval's form of all of them, and their figures.

use std::collections::HashMap;

use neftpipe_protocol::Digest;
use neftpipe_protocol::artifact::{AnswerRow, Metrics};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::prompts::Question;

/// What of an answer depends on the model alone, and so may be used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The text.
    pub output: String,
    /// `stop` or `length`.
    pub finish_reason: String,
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u64,
    /// Tokens generated, the end token among them.
    pub completion_tokens: u64,
}

/// A row that is kept for later attempts.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedAnswer {
    /// [`Question::key`].
    pub key: String,
    /// The answer.
    pub answer: Answer,
}

/// Answers by the key of their question.
#[derive(Default)]
pub struct Answers(HashMap<String, Answer>);

impl Answers {
    /// The saved rows that answer one of these questions. Rows of another form are passed over: they are no answers.
    pub fn known(rows: Vec<Value>, questions: &[Question]) -> Self {
        let mut known: HashMap<String, Answer> = rows
            .into_iter()
            .filter_map(|row| serde_json::from_value(row).ok())
            .map(|SavedAnswer { key, answer }| (key, answer))
            .collect();
        let used = questions.iter().filter_map(|question| known.remove_entry(&question.key)).collect();
        Self(used)
    }

    /// Whether there is an answer.
    pub fn has(&self, question: &Question) -> bool {
        self.0.contains_key(&question.key)
    }

    /// Adds an answer.
    pub fn add(&mut self, saved: SavedAnswer) {
        self.0.insert(saved.key, saved.answer);
    }

    /// The rows of `answers.json`, in the order of the questions.
    pub fn rows(&self, questions: &[Question], generator: &str) -> Vec<AnswerRow> {
        questions.iter().map(|question| row(question, &self.0[&question.key], generator)).collect()
    }
}

fn row(question: &Question, answer: &Answer, generator: &str) -> AnswerRow {
    let prompt = question.row.clone();
    AnswerRow {
        instruction: prompt.instruction,
        input: prompt.input,
        output: answer.output.clone(),
        generator: generator.to_owned(),
        dataset: prompt.dataset,
        reference: prompt.reference,
        finish_reason: Some(answer.finish_reason.clone()),
        prompt_tokens: Some(answer.prompt_tokens),
        completion_tokens: Some(answer.completion_tokens),
        prompt_digest: Some(Digest::of(question.text.as_bytes()).to_string()),
    }
}

/// Figures of the answers: counts, and means over rows.
pub fn metrics(rows: &[AnswerRow]) -> Metrics {
    let mean = |values: &mut dyn Iterator<Item = u64>| values.sum::<u64>() as f64 / rows.len() as f64;
    let ended = |reason: &str| rows.iter().filter(|row| row.finish_reason.as_deref() == Some(reason)).count();
    [
        ("rows", json!(rows.len())),
        ("mean_tokens", json!(mean(&mut rows.iter().filter_map(|row| row.completion_tokens)))),
        ("mean_characters", json!(mean(&mut rows.iter().map(|row| row.output.chars().count() as u64)))),
        ("finish_stop", json!(ended("stop"))),
        ("finish_length", json!(ended("length"))),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
