//! The measures that the report shows: what each is called, how it is written, which way is better, and what is known of it.
//!
//! Measures of single answers that need no judge are computed here; others come from verdicts under the same names.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use neftpipe_measures::exact_match::exact_match;
use neftpipe_measures::length::length;
use neftpipe_measures::repetition::repetition;
use neftpipe_measures::rouge::rouge_l;
use neftpipe_measures::sentence::{Better, Quantity};
use neftpipe_protocol::artifact::AnswerRow;
use serde_json::Value;

/// What a measure is taken on, which decides where the report shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Rows of the training split.
    TrainedRows,
    /// Rows of the held-out split.
    HeldOutRows,
    /// Answers to any prompts.
    Answers,
    /// A judge's preference between answers.
    Preference,
}

/// A measure.
#[derive(Debug)]
pub struct Measure {
    /// Its name in `report.json` and in verdicts.
    pub name: &'static str,
    /// Its name at the start of a title.
    pub title: &'static str,
    /// Heading of its column.
    pub heading: &'static str,
    /// What it is taken on.
    pub subject: Subject,
    /// How its values are written.
    pub quantity: Quantity<'static>,
    /// Whether arms are compared on it; the others are described only.
    pub is_compared: bool,
    /// What it is and what is known of it, one or two sentences.
    pub about: &'static str,
}

impl Measure {
    /// Its name within a sentence; abbreviations keep their capitals.
    pub fn phrase(&self) -> String {
        let is_abbreviation = self.title.chars().take(2).all(char::is_uppercase);
        if is_abbreviation { self.title.to_owned() } else { self.title.to_lowercase() }
    }
}

const fn quantity(unit: &'static str, scale: f64, decimals: usize, better: Option<Better>) -> Quantity<'static> {
    Quantity { unit, scale, decimals, better }
}

/// Loss on trained rows.
pub static LOSS_TRAINED: Measure = Measure {
    name: "loss_trained",
    title: "Loss on trained rows",
    heading: "Loss, trained rows",
    subject: Subject::TrainedRows,
    quantity: quantity("nats", 1.0, 3, None),
    is_compared: true,
    about: "Mean loss of a fixed sample of training rows, measured with the noise off. Noise on the embeddings is known to \
            raise it: the model fits its training rows less closely.",
};

/// Loss on held-out rows.
pub static LOSS_HELDOUT: Measure = Measure {
    name: "loss_heldout",
    title: "Loss on held-out rows",
    heading: "Loss, held-out rows",
    subject: Subject::HeldOutRows,
    quantity: quantity("nats", 1.0, 3, Some(Better::Lower)),
    is_compared: true,
    about: "Mean loss of a fixed sample of rows kept out of training, noise off. Where the noise keeps a model from \
            overfitting, this falls.",
};

/// Share of comparisons won.
pub static WIN_RATE: Measure = Measure {
    name: "win_rate",
    title: "Win rate",
    heading: "Win rate",
    subject: Subject::Preference,
    quantity: quantity("points", 100.0, 1, Some(Better::Higher)),
    is_compared: true,
    about: "How often the judge prefers the answer to the reference's; a draw counts half.",
};

/// Share of comparisons won at equal length.
pub static LC_WIN_RATE: Measure = Measure {
    name: "length_controlled_winrate",
    title: "Win rate at equal length",
    heading: "LC win rate",
    subject: Subject::Preference,
    quantity: quantity("points", 100.0, 1, Some(Better::Higher)),
    is_compared: true,
    about: "What AlpacaEval's length control leaves of the win rate, were all answers as long as the reference's. It is one fit \
            over all prompts: what a prompt contributes is told by how the rate moves with its weight, the fit included.",
};

/// Measures of single answers, in the order of the table's columns.
pub static OF_ANSWERS: [Measure; 6] = [
    Measure {
        name: "rouge_l",
        title: "ROUGE-L",
        heading: "ROUGE-L",
        subject: Subject::Answers,
        quantity: quantity("points", 100.0, 1, Some(Better::Higher)),
        is_compared: true,
        about: "Longest common subsequence with the best of the reference answers, F-measure.",
    },
    Measure {
        name: "characters",
        title: "Length",
        heading: "Length",
        subject: Subject::Answers,
        quantity: quantity("characters", 1.0, 1, None),
        is_compared: true,
        about: "Characters of an answer. Noise is known to make answers longer, and judges to prefer longer answers, so a \
                win rate must be read beside it.",
    },
    Measure {
        name: "exact_match",
        title: "Exact match",
        heading: "Exact match",
        subject: Subject::Answers,
        quantity: quantity("%", 100.0, 1, Some(Better::Higher)),
        is_compared: false,
        about: "Share of answers that equal a reference after normalisation.",
    },
    Measure {
        name: "bleu_4",
        title: "BLEU-4",
        heading: "BLEU-4",
        subject: Subject::Answers,
        quantity: quantity("points", 1.0, 1, Some(Better::Higher)),
        is_compared: false,
        about: "Overlap of n-grams up to four words with the references.",
    },
    Measure {
        name: "repetition",
        title: "Repetition",
        heading: "Repetition",
        subject: Subject::Answers,
        quantity: quantity("%", 100.0, 1, Some(Better::Lower)),
        is_compared: false,
        about: "Share of two-word sequences in an answer that repeat an earlier one.",
    },
    Measure {
        name: "log_diversity",
        title: "Log-diversity",
        heading: "Log-diversity",
        subject: Subject::Answers,
        quantity: quantity("", 1.0, 2, Some(Better::Higher)),
        is_compared: false,
        about: "−ln(1 − u₂·u₃·u₄), u being the share of different sequences of two, three and four words: more is less repetitive.",
    },
];

/// The measures of one answer that need no judge.
pub fn measure_answer(row: &AnswerRow) -> BTreeMap<String, f64> {
    let measured = [
        ("characters", Some(length(&row.output).characters as f64)),
        ("rouge_l", rouge_l(&row.output, &row.reference).map(|score| score.fmeasure)),
        ("exact_match", exact_match(&row.output, &row.reference).map(|equal| f64::from(u8::from(equal)))),
        ("repetition", repetition(&row.output, 2, None)),
    ];
    measured.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The known measures in a verdict's row.
pub fn of_verdict(row: &IndexMap<String, Value>) -> impl Iterator<Item = (String, f64)> {
    OF_ANSWERS.iter().filter_map(|measure| Some((measure.name.to_owned(), row.get(measure.name)?.as_f64()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_without_reference_has_no_scores_against_one() {
        let row = json!({"instruction": "say", "output": "one two one two", "generator": "m"});
        let measured = measure_answer(&serde_json::from_value(row).unwrap());
        let names: Vec<_> = measured.keys().map(String::as_str).collect();
        assert_eq!(names, ["characters", "repetition"]);
        assert_eq!(measured["characters"], 15.0);
    }

    #[test]
    fn references_are_scored_by_the_best() {
        let row = json!({"instruction": "say", "output": "Paris.", "reference": ["London", "paris"], "generator": "m"});
        let measured = measure_answer(&serde_json::from_value(row).unwrap());
        assert_eq!((measured["rouge_l"], measured["exact_match"]), (1.0, 1.0));
    }
}
