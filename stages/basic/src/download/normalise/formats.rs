//! The dataset formats: what a row of each looks like, and what it becomes.

use neftpipe_protocol::Failure;
use neftpipe_protocol::artifact::{DatasetRow, Message};
use neftpipe_protocol::params::download::{Columns, DatasetFormat};
use serde_json::Value;

use crate::download::rows::{At, text};

/// What a row became.
#[derive(Debug, PartialEq)]
pub enum Converted {
    /// One training row, or one for each answer.
    Rows(Vec<DatasetRow>),
    /// It cannot be trained on, and why.
    Dropped(&'static str),
}

/// Turns a row of a format into training rows.
///
/// # Errors
/// A row that has not the format's fields.
pub fn convert(format: DatasetFormat, columns: &Columns, at: At, row: &Value) -> Result<Converted, Failure> {
    match format {
        DatasetFormat::Alpaca => instruction(columns, Some("input"), at, row),
        DatasetFormat::Evol => instruction(columns, None, at, row),
        DatasetFormat::Pairs => pairs(at, row),
        DatasetFormat::Sharegpt => {
            conversation(at, row, &Keys { turns: "conversations", speaker: "from", text: "value" })
        }
        DatasetFormat::Messages => conversation(at, row, &Keys { turns: "messages", speaker: "role", text: "content" }),
    }
}

fn instruction(columns: &Columns, input: Option<&str>, at: At, row: &Value) -> Result<Converted, Failure> {
    let required = |column: &Option<String>, default: &str| {
        let path = column.as_deref().unwrap_or(default);
        text(at, row, path)?.ok_or_else(|| at.malformed(format_args!("field `{path}` is missing or null")))
    };
    let instruction = required(&columns.instruction, "instruction")?;
    let output = required(&columns.output, "output")?;
    let input = match columns.input.as_deref().or(input) {
        Some(path) => text(at, row, path)?.unwrap_or_default(),
        None => String::new(),
    };
    Ok(Converted::Rows(vec![DatasetRow::Instruction { instruction, input, output }]))
}

/// [question, answer, further answers…]: a row an answer. A text alone is a question without an answer.
fn pairs(at: At, row: &Value) -> Result<Converted, Failure> {
    let items = match row {
        Value::Array(items) => items,
        Value::String(_) => return Ok(Converted::Dropped("no_answer")),
        _ => return Err(at.malformed("a list of a question and its answers is wanted")),
    };
    let mut texts = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match item {
            Value::String(text) => texts.push(text.clone()),
            Value::Null => {} // an answer that was left out
            _ => return Err(at.malformed(format_args!("item {index} is no text"))),
        }
    }
    let mut texts = texts.into_iter();
    let Some(question) = texts.next() else { return Ok(Converted::Dropped("empty")) };
    let answers: Vec<_> = texts
        .map(|output| DatasetRow::Instruction { instruction: question.clone(), input: String::new(), output })
        .collect();
    Ok(if answers.is_empty() { Converted::Dropped("no_answer") } else { Converted::Rows(answers) })
}

/// Where a conversation's turns are.
struct Keys {
    turns: &'static str,
    speaker: &'static str,
    text: &'static str,
}

fn conversation(at: At, row: &Value, keys: &Keys) -> Result<Converted, Failure> {
    let Some(Value::Array(turns)) = row.get(keys.turns) else {
        return Err(at.malformed(format_args!("field `{}` is missing or no list", keys.turns)));
    };
    let mut messages = Vec::with_capacity(turns.len());
    for (index, turn) in turns.iter().enumerate() {
        let field = |key: &str| {
            turn.get(key)
                .and_then(Value::as_str)
                .ok_or_else(|| at.malformed(format_args!("field `{}.{index}.{key}` is missing or no text", keys.turns)))
        };
        let Some(role) = role(field(keys.speaker)?) else { return Ok(Converted::Dropped("unknown_speaker")) };
        messages.push(Message { role: role.to_owned(), content: field(keys.text)?.to_owned() });
    }
    Ok(match why_not(&messages) {
        Some(reason) => Converted::Dropped(reason),
        None => Converted::Rows(vec![DatasetRow::Conversation { messages }]),
    })
}

/// The roles of speakers, in the names that ShareGPT's exports and chat templates use.
fn role(speaker: &str) -> Option<&'static str> {
    match speaker {
        "human" | "user" => Some("user"),
        "gpt" | "chatgpt" | "assistant" | "bing" | "bard" => Some("assistant"),
        "system" => Some("system"),
        _ => None,
    }
}

/// Why a conversation cannot be trained on: the person speaks first (after a system turn) and the turns alternate.
fn why_not(messages: &[Message]) -> Option<&'static str> {
    let spoken = match messages {
        [first, rest @ ..] if first.role == "system" => rest,
        all => all,
    };
    match spoken {
        [] => return Some("empty"),
        [first, ..] if first.role != "user" => return Some("not_human_first"),
        [_] => return Some("no_answer"),
        _ => {}
    }
    let expected = ["user", "assistant"].into_iter().cycle();
    spoken.iter().zip(expected).any(|(turn, role)| turn.role != role).then_some("not_alternating")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const AT: At = At { file: "f.json", row: 3 };

    fn converted(format: DatasetFormat, row: Value) -> Result<Converted, Failure> {
        convert(format, &Columns::default(), AT, &row)
    }

    fn row(instruction: &str, input: &str, output: &str) -> DatasetRow {
        DatasetRow::Instruction { instruction: instruction.into(), input: input.into(), output: output.into() }
    }

    #[test]
    fn alpaca_rows_may_lack_an_input() {
        let found = converted(DatasetFormat::Alpaca, json!({"instruction": "i", "input": "x", "output": "o"}));
        assert_eq!(found.unwrap(), Converted::Rows(vec![row("i", "x", "o")]));
        let found = converted(DatasetFormat::Alpaca, json!({"instruction": "i", "input": null, "output": ""}));
        assert_eq!(found.unwrap(), Converted::Rows(vec![row("i", "", "")]));
        let message = converted(DatasetFormat::Alpaca, json!({"instruction": "i"})).unwrap_err().message;
        assert_eq!(message, "f.json: row 3: field `output` is missing or null");
    }

    #[test]
    fn columns_rename_fields() {
        let columns = Columns { instruction: Some("q".into()), output: Some("a.0.t".into()), ..Columns::default() };
        let found = convert(DatasetFormat::Evol, &columns, AT, &json!({"q": "i", "a": [{"t": "o"}], "input": "no"}));
        assert_eq!(found.unwrap(), Converted::Rows(vec![row("i", "", "o")]));
    }

    #[test]
    fn every_further_answer_of_a_pair_is_a_row() {
        let found = converted(DatasetFormat::Pairs, json!(["q", "a", "b"])).unwrap();
        assert_eq!(found, Converted::Rows(vec![row("q", "", "a"), row("q", "", "b")]));
        assert_eq!(converted(DatasetFormat::Pairs, json!(["q"])).unwrap(), Converted::Dropped("no_answer"));
        assert_eq!(converted(DatasetFormat::Pairs, json!("q - 'a'")).unwrap(), Converted::Dropped("no_answer"));
        assert!(converted(DatasetFormat::Pairs, json!(["q", 1])).is_err());
        assert!(converted(DatasetFormat::Pairs, json!({"q": "a"})).is_err());
    }

    #[test]
    fn conversations_begin_with_a_person_and_alternate() {
        let talk = |speakers: &[&str]| {
            let turns: Vec<_> = speakers.iter().map(|from| json!({"from": from, "value": "x"})).collect();
            converted(DatasetFormat::Sharegpt, json!({"conversations": turns})).unwrap()
        };
        assert!(matches!(talk(&["human", "gpt"]), Converted::Rows(_)));
        assert!(matches!(talk(&["system", "human", "gpt", "human", "gpt"]), Converted::Rows(_)));
        assert_eq!(talk(&["gpt", "human"]), Converted::Dropped("not_human_first"));
        assert_eq!(talk(&["human", "human"]), Converted::Dropped("not_alternating"));
        assert_eq!(talk(&["human", "gpt", "system"]), Converted::Dropped("not_alternating"));
        assert_eq!(talk(&["human"]), Converted::Dropped("no_answer"));
        assert_eq!(talk(&["human", "tool"]), Converted::Dropped("unknown_speaker"));
        assert_eq!(talk(&[]), Converted::Dropped("empty"));
    }

    #[test]
    fn a_turn_without_text_is_placed() {
        let message = converted(DatasetFormat::Messages, json!({"messages": [{"role": "user"}]})).unwrap_err().message;
        assert!(message.contains("`messages.0.content`"), "{message}");
    }
}
