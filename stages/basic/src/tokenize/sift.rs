//! Which rows go on: duplicates and rows that an evaluation asks are dropped and counted.

use std::collections::HashSet;

use indexmap::IndexMap;
use neftpipe_protocol::Digest;
use neftpipe_protocol::artifact::DatasetRow;

use super::contamination::{Asked, Overlap};

/// A row with its place in the dataset, for messages.
#[derive(Debug)]
pub struct Row {
    /// Line in `rows.jsonl`, from 1.
    pub line: usize,
    /// The row.
    pub content: DatasetRow,
}

/// Rows dropped, by reason.
pub type Dropped = IndexMap<String, u64>;

/// Reason of a row that equals an earlier one in every field.
pub const DUPLICATE: &str = "duplicate";
/// Reason of a row that asks what the prompts of the input `exclude` ask.
pub const CONTAMINATED: &str = "contaminated";
/// Reason of a row that asks it in the same words, with other case, punctuation or white space.
pub const CONTAMINATED_WORDS: &str = "contaminated_words";
/// Reason of a row that has words in a row with a prompt of `exclude`.
pub const CONTAMINATED_NGRAM: &str = "contaminated_ngram";
/// Reason of a row whose answer lies wholly beyond the longest length.
pub const NO_TRAINED_TOKEN: &str = "no_trained_token";

/// Counts one more dropped row.
pub fn count(dropped: &mut Dropped, reason: &str) {
    *dropped.entry(reason.to_owned()).or_default() += 1;
}

/// Keeps the first of rows that are equal in every field.
pub fn drop_duplicates(rows: &mut Vec<Row>, dropped: &mut Dropped) {
    let mut seen = HashSet::new();
    rows.retain(|row| {
        let bytes = serde_json::to_vec(&row.content).expect("rows serialise");
        let first = seen.insert(Digest::of(&bytes));
        if !first {
            count(dropped, DUPLICATE);
        }
        first
    });
}

/// Drops rows that the evaluation asks, each counted by how it was found. Answers how many stay that ask it but for case,
/// punctuation and white space.
pub fn drop_contaminated(rows: &mut Vec<Row>, evaluation: &Asked, dropped: &mut Dropped) -> u64 {
    let mut near = 0;
    rows.retain(|row| {
        let Some(overlap) = evaluation.overlap(&row.content) else { return true };
        let is_dropped = evaluation.is_dropped(overlap);
        match overlap {
            _ if !is_dropped => near += 1,
            Overlap::Same => count(dropped, CONTAMINATED),
            Overlap::SameWords => count(dropped, CONTAMINATED_WORDS),
            Overlap::Ngram => count(dropped, CONTAMINATED_NGRAM),
        }
        !is_dropped
    });
    near
}

#[cfg(test)]
mod tests {
    use super::*;
    use neftpipe_protocol::params::tokenize::{Contamination, SameText};
    use serde_json::json;

    fn rows(contents: &[serde_json::Value]) -> Vec<Row> {
        let row = |(index, content): (usize, &serde_json::Value)| Row {
            line: index + 1,
            content: serde_json::from_value(content.clone()).unwrap(),
        };
        contents.iter().enumerate().map(row).collect()
    }

    fn lines(rows: &[Row]) -> Vec<usize> {
        rows.iter().map(|row| row.line).collect()
    }

    #[test]
    fn only_rows_equal_in_every_field_are_duplicates() {
        let mut kept = rows(&[
            json!({"instruction": "a", "output": "x"}),
            json!({"instruction": "a", "output": "y"}),
            json!({"instruction": "a", "input": "", "output": "x"}),
            json!({"instruction": "a", "input": "i", "output": "x"}),
        ]);
        let mut dropped = Dropped::new();
        drop_duplicates(&mut kept, &mut dropped);
        assert_eq!(lines(&kept), [1, 2, 4]);
        assert_eq!(dropped[DUPLICATE], 1);
    }

    #[test]
    fn rows_that_the_evaluation_asks_are_dropped_in_either_form() {
        let mut kept = rows(&[
            json!({"instruction": "a", "input": "i", "output": "x"}),
            json!({"instruction": "a", "output": "x"}),
            json!({"messages": [{"role": "user", "content": "z"}, {"role": "assistant", "content": "y"},
                                {"role": "user", "content": "b"}, {"role": "assistant", "content": "y"}]}),
        ]);
        let prompt = |instruction: &str| serde_json::from_value(json!({"instruction": instruction})).unwrap();
        let prompts = [prompt("a\n\ni"), prompt("b"), prompt("A!")];
        let mut dropped = Dropped::new();
        let near = drop_contaminated(&mut kept, &Asked::new(&prompts, Contamination::default()), &mut dropped);
        assert_eq!((lines(&kept), near), (vec![2], 1));
        assert_eq!(dropped[CONTAMINATED], 2);
        let by_words = Contamination { text: SameText::Normalised, ngrams: 0 };
        assert_eq!(drop_contaminated(&mut kept, &Asked::new(&prompts, by_words), &mut dropped), 0);
        assert_eq!((kept.len(), dropped[CONTAMINATED_WORDS]), (0, 1));
    }
}
