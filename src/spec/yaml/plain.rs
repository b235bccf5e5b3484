//! The texts that nearly all files are: maps, lists and scalars, nothing that is odd. They become a value event by event.
//!
//! For 10,000 stages the events that the general parser collects first are 40 MB, and half of its 115 ms. Whatever is
//! unusual here (an anchor, a tag, a key twice, a syntax error) is left to it, and so is what a number is. Of broken texts
//! this parser lets some pass (a flow map that goes on at the start of a line); never does it read one differently.

use std::borrow::Cow;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

use super::{general, scalar_text};

/// Deeper than anybody writes.
const DEEPEST: usize = 64;

/// The value of a text. None where it has to be looked at more closely.
pub fn parse(text: &str) -> Option<Value> {
    if text.contains("\n---") || text.contains("\n...") {
        return None; // inside of brackets the parsers differ about these
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        builder.take(event.ok()?.0)?;
    }
    builder.root
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Value>,
}

/// A list or map that is not closed yet, and of a map the key whose value comes next. A map is made once its size is known:
/// one that grows takes three times the memory of the one entry that most of them have.
enum Open {
    List(Vec<Value>),
    Map(Vec<(String, Value)>, Option<String>),
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Option<()> {
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::StreamEnd => Some(()),
            Event::Scalar(text, style, 0, None) => self.put(scalar(text, style)?),
            Event::SequenceStart(0, None) => self.begin(Open::List(Vec::new())),
            Event::MappingStart(0, None) => self.begin(Open::Map(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop()? {
                Open::List(items) => self.put(Value::Array(items)),
                Open::Map(entries, None) => self.put(map(entries)?),
                Open::Map(_, Some(_)) => None,
            },
            _ => None,
        }
    }

    fn begin(&mut self, open: Open) -> Option<()> {
        self.open.push(open);
        (self.open.len() <= DEEPEST).then_some(())
    }

    fn put(&mut self, value: Value) -> Option<()> {
        match self.open.last_mut() {
            None if self.root.is_some() => return None, // a second document
            None => self.root = Some(value),
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map(entries, key)) => match key.take() {
                None => *key = Some(scalar_text(&value).filter(|text| text != "<<")?),
                Some(key) => entries.push((key, value)),
            },
        }
        Some(())
    }
}

/// A map of entries. None where a key stands twice.
fn map(entries: Vec<(String, Value)>) -> Option<Value> {
    let count = entries.len();
    let map = Map::from_iter(entries);
    (map.len() == count).then_some(Value::Object(map))
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Option<Value> {
    if style != ScalarStyle::Plain {
        return Some(Value::String(text.into_owned()));
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Some(Value::Null),
        "true" | "True" | "TRUE" => Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => Some(Value::Bool(false)),
        // By itself it would begin a document; here it is words that were broken over lines.
        words if words.starts_with("---") || words.starts_with("...") => Some(Value::String(text.into_owned())),
        number if number.starts_with(|c: char| matches!(c, '0'..='9' | '+' | '-' | '.')) => like_number(number),
        _ => Some(Value::String(text.into_owned())),
    }
}

/// A scalar that may be a number, as the general parser sees it.
fn like_number(text: &str) -> Option<Value> {
    let parsed = general(text).ok().filter(|parsed| parsed.irregular.is_empty())?;
    match parsed.value {
        Value::String(same) if same == text => Some(Value::String(same)),
        Value::Number(number) => Some(Value::Number(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees(text: &str) -> bool {
        match (parse(text), general(text)) {
            (Some(value), Ok(parsed)) => parsed.value == value && parsed.irregular.is_empty(),
            (Some(_), Err(_)) | (None, _) => true,
        }
    }

    #[test]
    fn usual_texts_are_read_and_as_the_general_parser_reads_them() {
        let texts = [
            "a: 5.0\nb: 2e-4\nc: yes\n8: [true, null, '1']\nd: 0x1f\ne: 012\nf: -3\n",
            "run: |\n  first\n   second\n\nrest: >-\n  folded\n  text\n\n  more\nq: \"a\\tb\\u00fc\\\n   c\"\n",
            "list:\n- a\n-   - b\n    - {c: d, e: [f, g]}\n- 'it''s'\n- inner: map\n-\n",
            "# a comment\nkey: value # another\nempty:\n\"quoted key\": 1.5\n? long\n: short\n",
            "url: https://example.org/a#b\ntime: 12:30:45\ndate: 2024-01-01\nsize: 8GiB\nversion: 1.2.3\npath: ./x\n",
            "over\nseveral\nlines",
            "rate: { first: ---\n5e-4, second: ...\n 7 }\n",
        ];
        for text in texts {
            assert_eq!(parse(text), general(text).ok().map(|parsed| parsed.value), "{text}");
        }
    }

    #[test]
    fn what_is_unusual_is_left_to_the_general_parser() {
        for text in ["a: &x 1\nb: *x", "a: !t 1", "a: 1\na: 2", "a: {<<: {b: 1}}", "? [a]\n: 1", "a: [", "a: .nan", ""]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&("[".repeat(65) + &"]".repeat(65))), None);
    }

    /// Pieces that YAML gives a meaning, put into the pipelines at every place in turn.
    #[test]
    fn mutated_pipelines_are_read_as_the_general_parser_reads_them() {
        const PIECES: [&str; 24] = [
            " ", "\n", "\t", "\r\n", ":", ": ", "- ", "? ", "#", " #", "'", "\"", "|", ">", "[", "]", "{", "}", ",",
            "&a ", "---\n", "...", "\\", "\u{feff}",
        ];
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines");
        let mut texts: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        texts.sort();
        let mut pieces = PIECES.iter().cycle();
        for file in texts.into_iter().filter(|file| file.extension().is_some_and(|ending| ending == "yaml")) {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(parse(&text).is_some(), "{}", file.display());
            for (at, _) in text.char_indices().step_by(3) {
                let piece = pieces.next().unwrap();
                let mutated = [&text[..at], piece, &text[at..]].concat();
                assert!(agrees(&mutated), "{} with {piece:?} at {at}", file.display());
            }
        }
    }
}
