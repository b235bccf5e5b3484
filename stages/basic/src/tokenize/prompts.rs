//! Groups as prompts: each question once, with the answers of its rows as references.

use indexmap::IndexMap;
use neftpipe_protocol::artifact::{DatasetRow, PromptRow};

use super::question::{Question, answer};

/// Groups in the order of their first rows, each with its rows.
pub type Groups<'a> = IndexMap<Question<'a>, Vec<&'a DatasetRow>>;

/// Puts rows that ask the same together.
pub fn group<'a>(rows: &[&'a DatasetRow]) -> Groups<'a> {
    let mut groups = Groups::new();
    for &row in rows {
        groups.entry(Question::of(row)).or_default().push(row);
    }
    groups
}

/// The prompt of a group: different answers are references, in the order of the rows.
pub fn prompt(question: &Question, rows: &[&DatasetRow]) -> PromptRow {
    let mut reference: Vec<String> = Vec::new();
    for answer in rows.iter().filter_map(|row| answer(row)) {
        if !reference.iter().any(|known| known == answer) {
            reference.push(answer.to_owned());
        }
    }
    PromptRow {
        instruction: question.instruction.to_owned(),
        input: question.input.to_owned(),
        reference,
        dataset: None,
    }
}

/// The `number` groups of lowest rank, in the order of their first rows.
pub fn choose<'a>(groups: &Groups<'a>, number: usize, rank: impl Fn(Question<'a>) -> u64) -> Vec<PromptRow> {
    let mut ranked: Vec<(u64, usize)> =
        groups.keys().enumerate().map(|(index, question)| (rank(*question), index)).collect();
    ranked.sort_unstable();
    ranked.truncate(number);
    let mut chosen: Vec<usize> = ranked.into_iter().map(|(_, index)| index).collect();
    chosen.sort_unstable();
    let at = |index| groups.get_index(index).expect("an index of these groups");
    chosen.into_iter().map(at).map(|(question, rows)| prompt(question, rows)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(pairs: &[(&str, &str)]) -> Vec<DatasetRow> {
        let row = |&(instruction, output): &(&str, &str)| DatasetRow::Instruction {
            instruction: instruction.to_owned(),
            input: String::new(),
            output: output.to_owned(),
        };
        pairs.iter().map(row).collect()
    }

    #[test]
    fn a_group_is_one_prompt_with_its_different_answers() {
        let rows = rows(&[("q", "a"), ("r", "x"), ("q", "b"), ("q", "a")]);
        let groups = group(&rows.iter().collect::<Vec<_>>());
        let prompts = choose(&groups, 9, |_| 0);
        assert_eq!(prompts.iter().map(|row| row.instruction.as_str()).collect::<Vec<_>>(), ["q", "r"]);
        assert_eq!(prompts[0].reference, ["a", "b"]);
    }

    #[test]
    fn the_lowest_ranks_are_chosen_and_stay_in_order() {
        let rows = rows(&[("1", ""), ("2", ""), ("3", "")]);
        let rank = |question: Question| 9 - question.instruction.parse::<u64>().unwrap();
        let chosen = choose(&group(&rows.iter().collect::<Vec<_>>()), 2, rank);
        assert_eq!(chosen.iter().map(|row| row.instruction.as_str()).collect::<Vec<_>>(), ["2", "3"]);
    }
}
