//! Which rows go on: duplicates and rows that an evaluation asks are dropped and counted.

use std::collections::HashSet;

use indexmap::IndexMap;
use neftpipe_protocol::Digest;
use neftpipe_protocol::artifact::{DatasetRow, PromptRow};

use super::question::{asked, one_text};

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

/// Drops rows that ask what one of these prompts asks; of a conversation, any user turn counts. Prompts may hold instruction,
/// blank line and input as one text.
pub fn drop_contaminated(rows: &mut Vec<Row>, exclude: &[PromptRow], dropped: &mut Dropped) {
    let excluded: HashSet<String> = exclude.iter().map(|row| one_text(&row.instruction, &row.input)).collect();
    rows.retain(|row| {
        let clean = asked(&row.content).iter().all(|text| !excluded.contains(text));
        if !clean {
            count(dropped, CONTAMINATED);
        }
        clean
    });
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let mut dropped = Dropped::new();
        drop_contaminated(&mut kept, &[prompt("a\n\ni"), prompt("b")], &mut dropped);
        assert_eq!(lines(&kept), [2]);
        assert_eq!(dropped[CONTAMINATED], 2);
    }
}
