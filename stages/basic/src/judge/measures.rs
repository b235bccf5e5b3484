//! Measures that need no judge: of each answer, and their means.

use indexmap::IndexMap;
use neftpipe_measures::summary::{mean, standard_error};
use neftpipe_measures::{bleu, diversity, exact_match, length, repetition, rouge};
use neftpipe_protocol::artifact::AnswerRow;
use neftpipe_protocol::params::judge::Measure;
use rayon::prelude::*;
use serde::Serialize;

/// Measures of one answer by name; none where the answer is too short or has no reference.
pub type RowMeasures = IndexMap<&'static str, Option<f64>>;

/// A measure over all answers that have it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Mean over answers.
    pub mean: Option<f64>,
    /// Standard error of the mean.
    pub standard_error: Option<f64>,
    /// Answers that have the measure.
    pub n: usize,
}

/// Measures every answer, on all cores.
pub fn measure(rows: &[AnswerRow], wanted: &[Measure]) -> Vec<RowMeasures> {
    rows.par_iter().map(|row| wanted.iter().flat_map(|&measure| of_row(row, measure)).collect()).collect()
}

/// Whether the measure compares with a gold answer.
pub fn needs_reference(measure: Measure) -> bool {
    matches!(measure, Measure::RougeL | Measure::Bleu4 | Measure::ExactMatch)
}

fn of_row(row: &AnswerRow, measure: Measure) -> Vec<(&'static str, Option<f64>)> {
    let (text, references) = (row.output.as_str(), row.reference.as_slice());
    match measure {
        Measure::RougeL => vec![("rouge_l", rouge::rouge_l(text, references).map(|score| score.fmeasure))],
        Measure::Bleu4 => vec![("bleu_4", bleu::bleu_4(text, references))],
        Measure::ExactMatch => {
            vec![("exact_match", exact_match::exact_match(text, references).map(|equal| f64::from(u8::from(equal))))]
        }
        Measure::Length => {
            let length = length::length(text);
            vec![("characters", Some(length.characters as f64)), ("words", Some(length.words as f64))]
        }
        Measure::Repetition => vec![("repetition", repetition::repetition(text, 2, None))],
        Measure::LogDiversity => vec![("log_diversity", diversity::log_diversity(text, None))],
    }
}

/// Means and standard errors over the answers that have each measure.
pub fn summarise(rows: &[RowMeasures]) -> IndexMap<&'static str, Figure> {
    let names = rows.first().map_or_else(Vec::new, |row| row.keys().copied().collect());
    let figure = |name: &&'static str| {
        let values: Vec<f64> = rows.iter().filter_map(|row| row[*name]).collect();
        Figure { mean: mean(&values), standard_error: standard_error(&values), n: values.len() }
    };
    names.iter().map(|name| (*name, figure(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(output: &str, reference: &[&str]) -> AnswerRow {
        let row = json!({"instruction": "q", "output": output, "generator": "g", "reference": reference});
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn each_measure_counts_the_answers_that_have_it() {
        let rows = [answer("The cat sat.", &["a dog", "the cat sat"]), answer("word", &[]), answer("no", &["yes"])];
        let wanted = [Measure::RougeL, Measure::ExactMatch, Measure::Length, Measure::Repetition];
        let measured = measure(&rows, &wanted);
        assert_eq!(measured[0]["exact_match"], Some(1.0));
        assert_eq!((measured[1]["rouge_l"], measured[1]["characters"]), (None, Some(4.0)));
        let figures = summarise(&measured);
        assert_eq!(figures["rouge_l"], Figure { mean: Some(0.5), standard_error: Some(0.5), n: 2 });
        assert_eq!((figures["words"].n, figures["repetition"].n), (3, 1));
        assert_eq!(
            figures.keys().copied().collect::<Vec<_>>(),
            ["rouge_l", "exact_match", "characters", "words", "repetition"]
        );
    }

    #[test]
    fn nothing_measured_has_no_mean() {
        let figures = summarise(&measure(&[answer("x", &[])], &[Measure::Bleu4, Measure::LogDiversity]));
        assert_eq!(figures["bleu_4"], Figure { mean: None, standard_error: None, n: 0 });
        assert_eq!(figures["log_diversity"].n, 0);
    }
}
