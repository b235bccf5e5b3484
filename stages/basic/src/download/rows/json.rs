//! JSON and JSON lines. A list is read element by element, so that a file of any size needs the memory of a row.

use std::fmt;
use std::ops::ControlFlow;

use neftpipe_protocol::Failure;
use serde::Deserializer as _;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::{Deserializer, Value};

use super::{At, Each, give, rows_of};

/// A value a line; blank lines are passed over, and rows are counted by lines.
pub fn read_lines(name: &str, text: &str, each: &mut Each) -> Result<ControlFlow<()>, Failure> {
    for (row, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let at = At { file: name, row };
        let value = serde_json::from_str(line)
            .map_err(|error| at.malformed(format_args!("not JSON: {}", at_column(&error))))?;
        if each(at, value)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// A list, an object that holds one, or values one after the other.
pub fn read(name: &str, text: &str, each: &mut Each) -> Result<ControlFlow<()>, Failure> {
    if text.trim_start().starts_with('[') {
        return read_list(name, text, each);
    }
    let mut values = Deserializer::from_str(text).into_iter::<Value>();
    let broken = |error: serde_json::Error| Failure::data(format!("{name}: not JSON: {error}"));
    let Some(first) = values.next().transpose().map_err(broken)? else {
        return Ok(ControlFlow::Continue(()));
    };
    let Some(second) = values.next().transpose().map_err(broken)? else {
        return give(name, rows_of(first), each);
    };
    for (row, value) in (1..).zip([Ok(first), Ok(second)].into_iter().chain(values)) {
        if each(At { file: name, row }, value.map_err(broken)?)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn read_list(name: &str, text: &str, each: &mut Each) -> Result<ControlFlow<()>, Failure> {
    let mut ended = None;
    let mut deserializer = Deserializer::from_str(text);
    let parsed =
        deserializer.deserialize_seq(Elements { name, each, ended: &mut ended }).and_then(|()| deserializer.end());
    match ended {
        Some(ended) => ended,
        None => parsed.map(ControlFlow::Continue).map_err(|error| Failure::data(format!("{name}: not JSON: {error}"))),
    }
}

/// Hands the elements of a list on; an early end is kept beside, as a visitor can only end by an error.
struct Elements<'a, 'b> {
    name: &'a str,
    each: &'a mut Each<'b>,
    ended: &'a mut Option<Result<ControlFlow<()>, Failure>>,
}

impl<'de> Visitor<'de> for Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut row = 0;
        while let Some(value) = list.next_element::<Value>()? {
            row += 1;
            match (self.each)(At { file: self.name, row }, value) {
                Ok(ControlFlow::Continue(())) => {}
                other => {
                    *self.ended = Some(other);
                    return Err(A::Error::custom("ended early"));
                }
            }
        }
        Ok(())
    }
}

/// The message of an error inside one line, whose line number would be misleading.
fn at_column(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column", " at column")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn all(
        read: fn(&str, &str, &mut Each) -> Result<ControlFlow<()>, Failure>,
        text: &str,
    ) -> Result<Vec<Value>, Failure> {
        let mut rows = Vec::new();
        let ended = read("x", text, &mut |_, row| {
            rows.push(row);
            Ok(ControlFlow::Continue(()))
        });
        ended.map(|_| rows)
    }

    #[test]
    fn lists_wrappers_and_sequences_are_read() {
        assert_eq!(all(read, " [1, {\"a\": 2}]").unwrap(), [json!(1), json!({"a": 2})]);
        assert_eq!(all(read, "{\"data\": [1, 2]}").unwrap(), [json!(1), json!(2)]);
        assert_eq!(all(read, "{\"a\": 1}\n{\"a\": 2}\n{\"a\": 3}").unwrap().len(), 3);
        assert_eq!(all(read_lines, "[1]\n\n[2]\n").unwrap(), [json!([1]), json!([2])]);
        assert!(all(read, "").unwrap().is_empty());
    }

    #[test]
    fn broken_json_is_placed() {
        assert!(all(read, "[1, 2").unwrap_err().message.contains("line 1"));
        assert!(all(read, "[1] x").is_err());
        let message = all(read_lines, "[1]\n{]").unwrap_err().message;
        assert!(message.contains("row 2") && message.contains("column 2"), "{message}");
    }

    #[test]
    fn reading_ends_when_enough() {
        let mut rows = 0;
        let ended = read("x", "[1, 2, broken", &mut |_, _| {
            rows += 1;
            Ok(if rows == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        assert!(ended.unwrap().is_break());
    }
}
