//! From a judge's answer to a preference between 1 (first output) and 2 (second): AlpacaEval's parsers as pure functions.
//!
//! Source: alpaca_eval 0.6.6, `completion_parsers`. How an answer is fetched is not known here.

use crate::python_literal;
use serde_json::Value;

/// Turns a preference round for a pair that the judge saw in swapped order: 3 − preference.
///
/// A draw given as 0 stays a draw.
pub fn undo_switch(preference: f64) -> f64 {
    if preference == 0.0 { preference } else { 3.0 - preference }
}

/// What a weighted judge prefers, from the log-probabilities of its first token.
///
/// `first` and `second` are the labels of the two outputs ("m" and "M" in AlpacaEval 2), compared exactly with the
/// returned tokens: 2 − p(first) / (p(first) + p(second)). A label that is not among the tokens has probability 0; `None`
/// where neither is.
pub fn from_log_probabilities(tokens: &[(&str, f64)], first: &str, second: &str) -> Option<f64> {
    let log_probability = |label: &str| {
        let last = tokens.iter().rev().find(|(token, _)| *token == label);
        last.map_or(f64::NEG_INFINITY, |&(_, log_probability)| log_probability)
    };
    let (first, second) = (log_probability(first), log_probability(second));
    if first.max(second) == f64::NEG_INFINITY {
        return None;
    }
    let preference = 2.0 - 1.0 / (1.0 + (second - first).exp());
    preference.is_finite().then_some(preference)
}

/// Why a ranking could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RankingError {
    /// The text is not a Python literal, which is how AlpacaEval's prompts ask for it.
    #[error("the ranking is not a Python literal: {0}")]
    NotALiteral(String),
    /// The value is not a list of objects with a `model`.
    #[error("the ranking is not a list of {{model, rank}} entries")]
    NotAList,
    /// No entry names the first output.
    #[error("the ranking has no entry for {0:?}")]
    ModelMissing(String),
    /// The entry's rank is neither 1 nor 2.
    #[error("the rank of {model:?} is {rank}, expected 1 or 2")]
    RankOutOfRange {
        /// The name of the first output.
        model: String,
        /// The rank as it was given.
        rank: String,
    },
}

/// What a ranking judge prefers: the rank, 1 or 2, that it gives to the output named `model_1` (AlpacaEval's
/// `ranking_parser`: being ranked first is preference 1).
///
/// `text` is a Python list of dictionaries: `[{'model': 'model_1', 'rank': 1}, …]`.
///
/// # Errors
/// See [`RankingError`]; AlpacaEval counts such a row as unparsable.
pub fn from_ranking_text(text: &str, model_1: &str) -> Result<f64, RankingError> {
    let ranking = python_literal::parse(text.trim()).map_err(RankingError::NotALiteral)?;
    from_ranking(&ranking, model_1)
}

/// The same for a ranking that came as JSON, such as the `ordered_models` of a function call.
///
/// # Errors
/// See [`RankingError`].
pub fn from_ranking(ranking: &Value, model_1: &str) -> Result<f64, RankingError> {
    let entries = ranking.as_array().ok_or(RankingError::NotAList)?;
    for entry in entries {
        if entry.get("model").ok_or(RankingError::NotAList)? == model_1 {
            return rank_of(entry, model_1);
        }
    }
    Err(RankingError::ModelMissing(model_1.to_owned()))
}

fn rank_of(entry: &Value, model_1: &str) -> Result<f64, RankingError> {
    let rank = entry.get("rank").unwrap_or(&Value::Null);
    match rank.as_f64() {
        Some(rank) if rank == 1.0 || rank == 2.0 => Ok(rank),
        _ => Err(RankingError::RankOutOfRange { model: model_1.to_owned(), rank: rank.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_weigh_the_two_labels() {
        let tokens = [("M", -0.1), ("m", -2.4), ("Both", -5.0)];
        let expected = 2.0 - (-2.4_f64).exp() / ((-2.4_f64).exp() + (-0.1_f64).exp());
        assert!((from_log_probabilities(&tokens, "m", "M").unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn a_missing_label_has_no_chance_and_two_missing_are_no_answer() {
        assert_eq!(from_log_probabilities(&[("M", -0.1)], "m", "M"), Some(2.0));
        assert_eq!(from_log_probabilities(&[("m", -9.0), (" M", -0.1)], "m", "M"), Some(1.0));
        assert_eq!(from_log_probabilities(&[("model", -0.1)], "m", "M"), None);
    }

    #[test]
    fn rankings_as_the_public_parser_reads_them() {
        let read = |text| from_ranking_text(text, "model_1");
        assert_eq!(read("[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]"), Ok(1.0));
        assert_eq!(read("[{'model': 'model_2', 'rank': 1}, {'model': 'model_1', 'rank': 2}]\n"), Ok(2.0));
        assert_eq!(
            read("[{'model': 'model_1', 'rank': 3}]"),
            Err(RankingError::RankOutOfRange { model: "model_1".into(), rank: "3".into() })
        );
        assert_eq!(read("[]"), Err(RankingError::ModelMissing("model_1".into())));
        assert_eq!(read("{'model': 'model_1'}"), Err(RankingError::NotAList));
        assert!(matches!(read("I prefer the first."), Err(RankingError::NotALiteral(_))));
    }

    #[test]
    fn switching_back() {
        assert_eq!(undo_switch(1.2), 1.8);
        assert_eq!(undo_switch(0.0), 0.0);
    }
}
