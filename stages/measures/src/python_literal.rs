//! Reads the Python literals that judges answer with: lists, tuples, dictionaries with string keys, strings, numbers,
//! `True`, `False`, `None`. A small part of `ast.literal_eval`, enough for a ranking; it evaluates nothing.

use serde_json::{Map, Value};

/// Deeper nesting than this is refused: a ranking has two levels, and input is not trusted.
const MAX_DEPTH: usize = 32;

/// The value of a literal, or what is wrong with it and where (in characters from the start).
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { chars: text.chars().collect(), place: 0 };
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.peek().is_some() {
        return reader.fail("expected the end");
    }
    Ok(value)
}

struct Reader {
    chars: Vec<char>,
    place: usize,
}

impl Reader {
    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return self.fail("nested too deep");
        }
        self.skip_space();
        match self.peek() {
            Some('[') => self.items('[', ']', depth).map(Value::Array),
            Some('(') => self.items('(', ')', depth).map(Value::Array),
            Some('{') => self.dictionary(depth),
            Some(quote @ ('\'' | '"')) => self.string(quote).map(Value::String),
            Some(c) if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.constant(),
            _ => self.fail("expected a value"),
        }
    }

    fn items(&mut self, open: char, close: char, depth: usize) -> Result<Vec<Value>, String> {
        self.expect(open)?;
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(self.value(depth + 1)?);
            if !self.take(',') {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn dictionary(&mut self, depth: usize) -> Result<Value, String> {
        self.expect('{')?;
        let mut entries = Map::new();
        while !self.take('}') {
            let Value::String(key) = self.value(depth + 1)? else {
                return self.fail("expected a string as key");
            };
            self.expect(':')?;
            entries.insert(key, self.value(depth + 1)?);
            if !self.take(',') {
                self.expect('}')?;
                break;
            }
        }
        Ok(Value::Object(entries))
    }

    fn string(&mut self, quote: char) -> Result<String, String> {
        self.expect(quote)?;
        let mut text = String::new();
        loop {
            match self.next() {
                Some(c) if c == quote => return Ok(text),
                Some('\\') => self.escape(&mut text)?,
                Some('\n') | None => return self.fail("the string does not end"),
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), String> {
        match self.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some(c @ ('\\' | '\'' | '"')) => text.push(c),
            Some('\n') => {}
            // As Python does with an escape that it does not know.
            Some(c) => text.extend(['\\', c]),
            None => return self.fail("the string does not end"),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Value, String> {
        let word = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
        if let Ok(whole) = word.parse::<i64>() {
            return Ok(Value::from(whole));
        }
        match word.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::from(number)),
            _ => self.fail("expected a number"),
        }
    }

    fn constant(&mut self) -> Result<Value, String> {
        match self.take_while(|c| c.is_ascii_alphanumeric() || c == '_').as_str() {
            "True" => Ok(Value::Bool(true)),
            "False" => Ok(Value::Bool(false)),
            "None" => Ok(Value::Null),
            _ => self.fail("expected a value"),
        }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let rest = self.chars[self.place..].iter().copied();
        let taken: String = rest.take_while(|&c| keep(c)).collect();
        self.place += taken.len();
        taken
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        let found = self.peek() == Some(wanted);
        self.place += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) { Ok(()) } else { self.fail(&format!("expected {wanted:?}")) }
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.place += 1;
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.place += 1;
        Some(c)
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.place).copied()
    }

    fn fail<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("{what} at character {}", self.place + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_a_ranking_needs() {
        let text = r#"[{'model': "it's", "rank": 1,}, ('a\n\'b', -2.5, True, None), []]"#;
        assert_eq!(parse(text), Ok(json!([{"model": "it's", "rank": 1}, ["a\n'b", -2.5, true, null], []])));
    }

    #[test]
    fn refuses_everything_else_without_panic() {
        for text in
            ["", "[", "[1", "{'a'", "{1: 2}", "'a", "'a\\", "1 2", "__import__('os')", "[1,,2]", "1e999", "é", "--"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
