//! Which answer is compared with which: the rows of two generators put together by what they answer.
//!
//! Rows belong together where instruction and input are equal, or, since AlpacaEval's own files hold instruction, blank line
//! and input as one text, where those texts are. Nothing is left out silently: what has no counterpart is counted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::Failure;
use crate::artifact::AnswerRow;

/// An answer and the reference's answer to the same prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair<'a> {
    /// The opponent's: AlpacaEval's `output_1`.
    pub reference: &'a AnswerRow,
    /// The one that is judged: AlpacaEval's `output_2`.
    pub answer: &'a AnswerRow,
}

impl Pair<'_> {
    /// What both answer, as one text.
    pub fn prompt(&self) -> String {
        one_text(self.answer)
    }
}

/// Joins answers with the reference's, in the order of the answers.
///
/// # Errors
/// Where a prompt is answered twice on a side, or only on one.
pub fn join<'a>(answers: &'a [AnswerRow], reference: &'a [AnswerRow]) -> Result<Vec<Pair<'a>>, Failure> {
    refuse_duplicates("answers", answers)?;
    refuse_duplicates("reference", reference)?;
    let exact: HashMap<_, usize> = reference.iter().enumerate().map(|(index, row)| (asked(row), index)).collect();
    let texts = unique_texts(reference);
    let find =
        |row: &AnswerRow| exact.get(&asked(row)).copied().or_else(|| texts.get(&one_text(row)).copied().flatten());
    let mut taken = vec![false; reference.len()];
    let mut pairs = Vec::with_capacity(answers.len());
    for answer in answers {
        if let Some(index) = find(answer).filter(|&index| !taken[index]) {
            taken[index] = true;
            pairs.push(Pair { reference: &reference[index], answer });
        }
    }
    refuse_unmatched(&pairs, answers, reference)?;
    Ok(pairs)
}

fn asked(row: &AnswerRow) -> (&str, &str) {
    (&row.instruction, &row.input)
}

/// Instruction, blank line and input, as AlpacaEval's files have them.
pub fn one_text(row: &AnswerRow) -> String {
    if row.input.is_empty() { row.instruction.clone() } else { format!("{}\n\n{}", row.instruction, row.input) }
}

/// Rows by their prompts as one text; none where two rows share it.
fn unique_texts(rows: &[AnswerRow]) -> HashMap<String, Option<usize>> {
    let mut texts = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        match texts.entry(one_text(row)) {
            Entry::Vacant(place) => {
                place.insert(Some(index));
            }
            Entry::Occupied(mut place) => *place.get_mut() = None,
        }
    }
    texts
}

fn refuse_duplicates(slot: &str, rows: &[AnswerRow]) -> Result<(), Failure> {
    let mut seen: HashMap<_, usize> = HashMap::new();
    rows.iter().for_each(|row| *seen.entry(asked(row)).or_default() += 1);
    let duplicates = rows.len() - seen.len();
    let Some(example) = rows.iter().find(|row| seen[&asked(row)] > 1) else { return Ok(()) };
    Err(Failure::data(format!(
        "{duplicates} of the {} rows of `{slot}` answer a prompt that another row answers; the first is {}",
        rows.len(),
        quote(example)
    ))
    .with_hint("answers are compared by prompt: let every prompt stand once in the prompts"))
}

fn refuse_unmatched(pairs: &[Pair], answers: &[AnswerRow], reference: &[AnswerRow]) -> Result<(), Failure> {
    let (extra, missing) = (answers.len() - pairs.len(), reference.len() - pairs.len());
    if extra == 0 && missing == 0 {
        return Ok(());
    }
    let paired =
        |row: &AnswerRow| pairs.iter().any(|pair| std::ptr::eq(pair.answer, row) || std::ptr::eq(pair.reference, row));
    let example = answers.iter().chain(reference).find(|row| !paired(row)).expect("a row is unmatched");
    Err(Failure::data(format!(
        "the prompts differ: {extra} of {} answers have no counterpart in the reference, {missing} of its {} none in the \
         answers; the first is {}",
        answers.len(),
        reference.len(),
        quote(example)
    ))
    .with_hint("both sides must answer the same prompts"))
}

/// The beginning of a prompt, for a message.
fn quote(row: &AnswerRow) -> String {
    const SHOWN_CHARACTERS: usize = 60;
    let text = one_text(row);
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(prompts: &[(&str, &str)]) -> Vec<AnswerRow> {
        let row = |(instruction, input): &(&str, &str)| json!({"instruction": instruction, "input": input, "output": "", "generator": "g"});
        prompts.iter().map(|prompt| serde_json::from_value(row(prompt)).unwrap()).collect()
    }

    #[test]
    fn rows_are_joined_in_the_answers_order_also_where_one_side_has_one_text() {
        let answers = rows(&[("a", "i"), ("b", ""), ("b ", "")]);
        let reference = rows(&[("b", ""), ("b ", ""), ("a\n\ni", "")]);
        let joined = join(&answers, &reference).unwrap();
        assert_eq!(joined.iter().map(Pair::prompt).collect::<Vec<_>>(), ["a\n\ni", "b", "b "]);
        assert_eq!(joined[0].reference.instruction, "a\n\ni");
    }

    #[test]
    fn duplicates_are_counted() {
        let message =
            join(&rows(&[("a", ""), ("b", ""), ("a", ""), ("a", "")]), &rows(&[("a", "")])).unwrap_err().message;
        assert!(message.starts_with("2 of the 4 rows of `answers`") && message.ends_with("\"a\""), "{message}");
    }

    #[test]
    fn rows_without_a_counterpart_are_counted_on_both_sides() {
        let message =
            join(&rows(&[("a", ""), ("b", "")]), &rows(&[("c", ""), ("b", ""), ("d", "")])).unwrap_err().message;
        assert!(message.contains("1 of 2 answers") && message.contains("2 of its 3"), "{message}");
        // Two answers that only differ in form do not share one counterpart.
        assert!(join(&rows(&[("a", "i"), ("a\n\ni", "")]), &rows(&[("a\n\ni", "")])).is_err());
    }
}
