//! How `judge` asks the worker with tensors to score pairs of answers: the nested request, its rows and its results.
//!
//! The judging worker makes a folder inside its attempt with a [`Request`](crate::request::Request) of kind `judge`:
//! its `params` are the [`JudgeParams`](crate::params::JudgeParams) of the stage, its only input is `model`, its
//! `attempt` and `out` lie in that folder, and [`PAIRS_FILE`] stands beside the request. It starts
//! [`Request::torch_worker`](crate::request::Request::torch_worker) as `WORKER exec --request FOLDER/request.json` from
//! its main thread (the nested worker stops when that thread is gone) and passes a wish to stop on as SIGTERM.
//!
//! The nested worker appends one [`ScoreRow`] a pair to `out/scores/`[`SCORES_FILE`], longest pairs first, and leaves
//! `result.json` like any worker. Whole lines are good however it ends: what is paid for may be kept.
//!
//! Each pair is asked twice, once in each order. The prompt shows the answers as A and B and asks for the letter of the
//! better one; what counts is how probable the model finds either letter, so that no answer has to be parsed.

use serde::{Deserialize, Serialize};

/// Name of the pairs beside the nested request.
pub const PAIRS_FILE: &str = "pairs.jsonl";
/// Name of the nested worker's output, of type `files`.
pub const SCORES_OUTPUT: &str = "scores";
/// Name of the scores in that output.
pub const SCORES_FILE: &str = "scores.jsonl";

/// Two answers to compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairRow {
    /// The asker's name for the pair; no two pairs share one.
    pub id: String,
    /// What was asked, with its input after a blank line where it has one.
    pub instruction: String,
    /// The opponent's answer.
    pub output_1: String,
    /// The model's answer.
    pub output_2: String,
}

/// What the judging model thinks of a pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreRow {
    /// [`PairRow::id`].
    pub id: String,
    /// Scores with `output_1` shown first, and with `output_2` shown first. Null where a prompt does not fit into the
    /// model's window.
    pub orders: Option<[LabelScores; 2]>,
}

/// Log-probabilities (natural) of the two labels as the next token, over the whole vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LabelScores {
    /// Of the label of the answer that is shown first.
    pub first: f64,
    /// Of the label of the answer that is shown second.
    pub second: f64,
}

impl LabelScores {
    /// Probability that the answer shown second is the better, given that one of the labels is said.
    pub fn second_preferred(&self) -> f64 {
        1.0 / (1.0 + (self.first - self.second).exp())
    }
}

impl ScoreRow {
    /// AlpacaEval's preference: 1 where `output_1` is surely better, 2 where `output_2` is; the mean of both orders, so
    /// that a liking for a place cancels.
    pub fn preference(&self) -> Option<f64> {
        let [in_order, swapped] = self.orders.as_ref()?;
        Some(1.0 + (in_order.second_preferred() + 1.0 - swapped.second_preferred()) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(orders: [(f64, f64); 2]) -> ScoreRow {
        let orders = orders.map(|(first, second)| LabelScores { first, second });
        ScoreRow { id: "x".to_owned(), orders: Some(orders) }
    }

    #[test]
    fn the_preference_follows_the_answer_and_not_its_place() {
        let likes_output_2 = row([(-5.0, -0.1), (-0.1, -5.0)]).preference().unwrap();
        assert!((likes_output_2 - 2.0).abs() < 0.01, "{likes_output_2}");
        let likes_first_place = row([(-0.1, -5.0), (-0.1, -5.0)]).preference().unwrap();
        assert!((likes_first_place - 1.5).abs() < 1e-12, "{likes_first_place}");
        let certain = row([(-800.0, 0.0), (0.0, -800.0)]).preference().unwrap();
        assert_eq!(certain, 2.0);
    }

    #[test]
    fn rows_are_plain_json_and_what_does_not_fit_is_null() {
        let text = r#"{"id":"x","orders":[{"first":-1.0,"second":-2.0},{"first":-3.0,"second":-4.0}]}"#;
        let parsed: ScoreRow = serde_json::from_str(text).unwrap();
        assert_eq!(parsed, row([(-1.0, -2.0), (-3.0, -4.0)]));
        assert_eq!(serde_json::to_string(&parsed).unwrap(), text);
        let skipped: ScoreRow = serde_json::from_str(r#"{"id":"x","orders":null}"#).unwrap();
        assert_eq!(skipped.preference(), None);
    }
}
