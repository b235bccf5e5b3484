//! Which rows an evaluation asks: by equal questions, by questions of equal words, or by words in a row that both have.
//!
//! Words are runs of letters and digits in lower case, so that neither case nor punctuation nor white space tells texts
//! apart. Runs of words are looked for in all that a row says, as is common practice (T. Brown et al., "Language models are
//! few-shot learners", 2020, appendix C: 13 words); prompts shorter than that are found by their whole question alone.

use std::collections::HashSet;

use neftpipe_protocol::artifact::{DatasetRow, PromptRow};
use neftpipe_protocol::params::tokenize::{Contamination, SameText};

use super::question::{asked, one_text, said};

/// How a row was found to be one of the evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It asks the same.
    Same,
    /// It asks the same in the same words.
    SameWords,
    /// It has words in a row with a prompt.
    Ngram,
}

/// What the prompts of an evaluation ask.
pub struct Asked {
    texts: HashSet<String>,
    words: HashSet<String>,
    ngrams: HashSet<String>,
    wanted: Contamination,
}

impl Asked {
    /// By these prompts. They may hold instruction, blank line and input as one text.
    pub fn new(prompts: &[PromptRow], wanted: Contamination) -> Self {
        let texts: HashSet<String> = prompts.iter().map(|row| one_text(&row.instruction, &row.input)).collect();
        let words: HashSet<String> = texts.iter().map(|text| words(text)).filter(|words| !words.is_empty()).collect();
        let ngrams = match usize::try_from(wanted.ngrams) {
            Ok(0) | Err(_) => HashSet::new(),
            Ok(n) => words.iter().flat_map(|words| in_a_row(words, n)).map(str::to_owned).collect(),
        };
        Self { texts, words, ngrams, wanted }
    }

    /// How a row overlaps with the prompts, whatever of it is to be dropped; of a conversation, any user turn asks.
    pub fn overlap(&self, row: &DatasetRow) -> Option<Overlap> {
        let asked = asked(row);
        if asked.iter().any(|text| self.texts.contains(text)) {
            return Some(Overlap::Same);
        }
        if asked.iter().any(|text| self.words.contains(&words(text))) {
            return Some(Overlap::SameWords);
        }
        if self.ngrams.is_empty() {
            return None;
        }
        let n = usize::try_from(self.wanted.ngrams).ok()?;
        let is_shared = |text: String| in_a_row(&words(&text), n).any(|ngram| self.ngrams.contains(ngram));
        said(row).into_iter().any(is_shared).then_some(Overlap::Ngram)
    }

    /// Whether a row with such an overlap is dropped.
    pub fn is_dropped(&self, overlap: Overlap) -> bool {
        overlap != Overlap::SameWords || self.wanted.text == SameText::Normalised || self.wanted.ngrams > 0
    }
}

/// The words of a text in lower case, a space between them.
fn words(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    for word in text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if !words.is_empty() {
            words.push(' ');
        }
        words.extend(word.chars().flat_map(char::to_lowercase));
    }
    words
}

/// Every `n` words in a row of some words with a space between them.
fn in_a_row(words: &str, n: usize) -> impl Iterator<Item = &str> {
    let starts = [0].into_iter().chain(words.match_indices(' ').map(|(at, _)| at + 1));
    let ends = words.match_indices(' ').map(|(at, _)| at).chain([words.len()]).skip(n - 1);
    starts.zip(ends).map(|(start, end)| &words[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn overlap(prompt: &str, wanted: Contamination, row: serde_json::Value) -> Option<Overlap> {
        let prompt: PromptRow = serde_json::from_value(json!({"instruction": prompt})).unwrap();
        let found = Asked::new(&[prompt], wanted);
        found.overlap(&serde_json::from_value(row).unwrap()).filter(|&overlap| found.is_dropped(overlap))
    }

    fn wanted(text: SameText, ngrams: u64) -> Contamination {
        Contamination { text, ngrams }
    }

    #[test]
    fn words_have_neither_case_nor_punctuation() {
        assert_eq!(words("  What’s THE\u{a0}Straße, l'ÉTÉ?\n\n 3-1 "), "what s the straße l été 3 1");
        assert_eq!(words("?! …"), "");
        assert_eq!(in_a_row("a b c d", 3).collect::<Vec<_>>(), ["a b c", "b c d"]);
        assert_eq!(in_a_row("a b", 3).count(), 0);
    }

    #[test]
    fn questions_of_the_same_words_are_the_same_where_asked_for() {
        let row = json!({"instruction": "name the  capitals", "input": "France, Spain", "output": "x"});
        let prompt = "Name the capitals:\n\nFrance; Spain.";
        assert_eq!(overlap(prompt, wanted(SameText::Exact, 0), row.clone()), None);
        assert_eq!(overlap(prompt, wanted(SameText::Normalised, 0), row.clone()), Some(Overlap::SameWords));
        assert_eq!(overlap(prompt, wanted(SameText::Exact, 13), row), Some(Overlap::SameWords));
        let empty = json!({"instruction": "?", "output": "x"});
        assert_eq!(overlap("!", wanted(SameText::Normalised, 13), empty.clone()), None);
        assert_eq!(overlap("?", wanted(SameText::Exact, 0), empty), Some(Overlap::Same));
    }

    #[test]
    fn words_in_a_row_are_found_in_questions_and_answers() {
        let prompt = "Write one sentence about the sea in winter for me";
        let said = |text: &str| json!({"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": text}]});
        let found = |text: &str, n| overlap(prompt, wanted(SameText::Exact, n), said(text));
        assert_eq!(found("You asked: one sentence, about THE sea in winter", 7), Some(Overlap::Ngram));
        assert_eq!(found("You asked: one sentence, about THE sea in winter", 8), None);
        assert_eq!(found("one sentence about a sea in winter for me", 5), Some(Overlap::Ngram));
        assert_eq!(found("one sentence about a sea in winter for me", 6), None);
        assert_eq!(found("one sentence about a sea in winter for me", 0), None);
    }
}
