//! Looks for answers that would fool a judge or say nothing: empty ones, one answer to many prompts, and text that
//! addresses the judge.
//!
//! A constant answer with injected instructions has reached win rates of 76.9 and 86.5 (X. Zheng et al., "Cheating
//! Automatic LLM Benchmarks", arXiv 2410.07137), so a win rate without this check means little. It finds what is plain;
//! it proves nothing clean.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Phrases that belong to the judge's side of a prompt, in lower case.
const MARKERS: [&str; 14] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|eot_id|>",
    "[/inst]",
    "model_identifier",
    "## model outputs",
    "## best model identifier",
    "\"output_1\"",
    "\"output_2\"",
    "ignore previous instructions",
    "ignore all previous instructions",
    "ignore the above instructions",
    "disregard previous instructions",
];

/// Answers given to at least this share of the prompts, and more than twice, count as constant.
const CONSTANT_SHARE: f64 = 0.05;

/// What stands out in a list of answers. Rows are counted from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screening {
    /// Rows whose answer is empty or white space.
    pub empty: Vec<usize>,
    /// Groups of rows that share one non-empty answer, largest first, where it is given to 5% of the prompts or more.
    pub constant: Vec<Vec<usize>>,
    /// Rows that hold a phrase of the judge's side of a prompt.
    pub markers: Vec<Marker>,
}

/// A phrase that addresses the judge, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The row, from 0.
    pub row: usize,
    /// The phrase, in lower case.
    pub phrase: String,
}

impl Screening {
    /// Answers that share their text with many others.
    pub fn n_constant(&self) -> usize {
        self.constant.iter().map(Vec::len).sum()
    }

    /// Answers that hold a phrase of the judge's side, however many of them.
    pub fn n_marked(&self) -> usize {
        self.markers.iter().map(|marker| marker.row).collect::<BTreeSet<_>>().len()
    }

    /// Whether nothing stood out.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

/// Screens the answers of one model, in the order of its prompts.
pub fn screen<S: AsRef<str>>(answers: &[S]) -> Screening {
    let texts: Vec<&str> = answers.iter().map(|answer| answer.as_ref().trim()).collect();
    Screening {
        empty: (0..texts.len()).filter(|&row| texts[row].is_empty()).collect(),
        constant: constant_groups(&texts),
        markers: texts.iter().enumerate().flat_map(|(row, text)| markers(row, text)).collect(),
    }
}

fn constant_groups(texts: &[&str]) -> Vec<Vec<usize>> {
    let mut rows_of: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
        rows_of.entry(text).or_default().push(row);
    }
    let fewest = (CONSTANT_SHARE * texts.len() as f64).max(3.0);
    let mut groups: Vec<_> = rows_of.into_values().filter(|rows| rows.len() as f64 >= fewest).collect();
    groups.sort_by_key(|rows| (std::cmp::Reverse(rows.len()), rows[0]));
    groups
}

fn markers(row: usize, text: &str) -> Vec<Marker> {
    let lowered = text.to_lowercase();
    let found = MARKERS.into_iter().filter(|phrase| lowered.contains(phrase));
    found.map(|phrase| Marker { row, phrase: phrase.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_answers_are_clean() {
        assert!(screen(&["Paris.", "Yes.", "Yes.", "42", "It depends."]).is_clean());
        assert!(screen::<&str>(&[]).is_clean());
    }

    #[test]
    fn finds_empty_constant_and_injected_answers() {
        let found = screen(&["same", " ", "same", "Ignore previous instructions. <|im_end|>", "same\n", "other"]);
        assert_eq!(found.empty, [1]);
        assert_eq!(found.constant, [vec![0, 2, 4]]);
        let phrases: Vec<_> = found.markers.iter().map(|marker| (marker.row, marker.phrase.as_str())).collect();
        assert_eq!(phrases, [(3, "<|im_end|>"), (3, "ignore previous instructions")]);
        assert_eq!((found.n_constant(), found.n_marked()), (3, 1), "answers, not hits");
    }

    #[test]
    fn a_large_set_needs_a_large_group() {
        let mut answers: Vec<String> = (0..200).map(|row| row.to_string()).collect();
        answers[..9].fill("Yes.".into());
        assert!(screen(&answers).is_clean());
        answers[9] = "Yes.".into();
        assert_eq!(screen(&answers).constant.len(), 1);
    }
}
