//! What a row asks and what it answers. Rows that ask the same are one group, and a group is never split.

use neftpipe_protocol::artifact::DatasetRow;

/// Instruction and input of a row; of a conversation, its first user turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Question<'a> {
    /// What is asked.
    pub instruction: &'a str,
    /// What it is asked about; may be empty.
    pub input: &'a str,
}

impl<'a> Question<'a> {
    /// The question of a row. A conversation without a user turn asks the empty question.
    pub fn of(row: &'a DatasetRow) -> Self {
        match row {
            DatasetRow::Instruction { instruction, input, .. } => Self { instruction, input },
            DatasetRow::Conversation { .. } => {
                Self { instruction: user_turns(row).next().unwrap_or_default(), input: "" }
            }
        }
    }
}

/// Everything that a row asks, as one text each: an instruction with its input, or every user turn.
pub fn asked(row: &DatasetRow) -> Vec<String> {
    match row {
        DatasetRow::Instruction { instruction, input, .. } => vec![one_text(instruction, input)],
        DatasetRow::Conversation { .. } => user_turns(row).map(|turn| one_text(turn, "")).collect(),
    }
}

/// Everything that a row says, as one text each: a question with its input and the answer, or every turn.
pub fn said(row: &DatasetRow) -> Vec<String> {
    match row {
        DatasetRow::Instruction { instruction, input, output } => vec![one_text(instruction, input), output.clone()],
        DatasetRow::Conversation { messages } => messages.iter().map(|message| message.content.clone()).collect(),
    }
}

/// Instruction, blank line and input, as AlpacaEval's files have them, without white space around.
pub fn one_text(instruction: &str, input: &str) -> String {
    format!("{instruction}\n\n{input}").trim().to_owned()
}

/// The answer to the question: the output, or the first assistant turn after the first user turn.
pub fn answer(row: &DatasetRow) -> Option<&str> {
    match row {
        DatasetRow::Instruction { output, .. } => Some(output),
        DatasetRow::Conversation { messages } => {
            let mut rest = messages.iter().skip_while(|message| message.role != "user");
            rest.find(|message| message.role == "assistant").map(|message| message.content.as_str())
        }
    }
}

fn user_turns(row: &DatasetRow) -> impl Iterator<Item = &str> {
    let messages = match row {
        DatasetRow::Conversation { messages } => messages.as_slice(),
        DatasetRow::Instruction { .. } => &[],
    };
    messages.iter().filter(|message| message.role == "user").map(|message| message.content.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(value: serde_json::Value) -> DatasetRow {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_conversation_asks_with_its_first_user_turn() {
        let talk = row(json!({"messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},
            {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]}));
        assert_eq!(Question::of(&talk), Question { instruction: "q", input: "" });
        assert_eq!(answer(&talk), Some("a"));
        assert_eq!(asked(&talk), ["q", "r"]);
    }

    #[test]
    fn an_instruction_asks_with_its_input() {
        let pair = row(json!({"instruction": "Add.", "input": "1 2", "output": "3"}));
        assert_eq!(Question::of(&pair), Question { instruction: "Add.", input: "1 2" });
        assert_eq!((answer(&pair), asked(&pair)), (Some("3"), vec!["Add.\n\n1 2".to_owned()]));
        assert_eq!(one_text("Add.\n\n1 2 ", ""), "Add.\n\n1 2");
    }
}
