//! YAML text to a value, fast and without positions.
//!
//! Numbers come out in canonical spelling (`5.0` is 5), keys as text. What JSON cannot hold or what would be silently
//! wrong (a key twice, a merge, a tag) is counted, not refused: the span-keeping parse then says where it is, and the
//! rest of the file is checked all the same.

mod plain;

use std::cell::RefCell;
use std::fmt;

use neftpipe_protocol::digest::canonical;
use saphyr_parser::{Event, Parser};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A parsed text.
#[derive(Debug)]
pub struct Parsed {
    /// Its value.
    pub value: Value,
    /// What was read although it should not be there.
    pub irregular: Vec<Irregular>,
}

/// Something that YAML allows and a pipeline file does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Irregular {
    /// A key stands twice; the first counted.
    Duplicate(String),
    /// A merge key.
    Merge,
    /// A tag.
    Tag(String),
    /// A key that is a list, a map or null.
    Key,
    /// A number that is not finite.
    NotFinite,
}

/// A text that is no YAML.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// What the parser says.
    pub message: String,
    /// Line and column, both from 1, in characters.
    pub at: Option<(usize, usize)>,
}

/// Parses one document. An empty text is null.
///
/// # Errors
/// [`SyntaxError`] where the text is no YAML, nests too deep or repeats aliases without end.
pub fn parse(text: &str) -> Result<Parsed, SyntaxError> {
    if text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#')) {
        return Ok(Parsed { value: Value::Null, irregular: Vec::new() });
    }
    if let Some(at) = too_deep(text) {
        return Err(SyntaxError { message: "brackets nest too deep".to_owned(), at: Some(at) });
    }
    match plain::parse(text) {
        Some(value) => Ok(Parsed { value, irregular: Vec::new() }),
        None => general(text),
    }
}

/// Parses whatever is YAML.
fn general(text: &str) -> Result<Parsed, SyntaxError> {
    let irregular = RefCell::new(Vec::new());
    let seed = Seed(&irregular);
    match seed.deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(value) => Ok(Parsed { value, irregular: irregular.into_inner() }),
        Err(error) => {
            let at = error.location().map(|location| (location.line(), location.column()));
            Err(SyntaxError { message: plain_message(&error), at })
        }
    }
}

/// Where brackets nest beyond all reason, as line and column. The parser would refuse it too, but its time grows with the
/// square of the depth.
fn too_deep(text: &str) -> Option<(usize, usize)> {
    const DEEPEST: usize = 1_000;
    let mut depth = 0_usize;
    let suspect = text.bytes().position(|byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEEPEST
    })?;
    // They may stand in texts and comments: a script without end of `{`. Events tell.
    let mut depth = 0_usize;
    for event in Parser::new_from_str(text) {
        match event {
            Ok((Event::SequenceStart(..) | Event::MappingStart(..), _)) => depth += 1,
            Ok((Event::SequenceEnd | Event::MappingEnd, _)) => depth = depth.saturating_sub(1),
            Ok(_) => {}
            Err(_) => return Some(position(text, suspect)),
        }
        if depth > DEEPEST {
            return Some(position(text, suspect));
        }
    }
    None
}

/// Line and column of a byte, both from 1, in characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (1 + before.matches('\n').count(), 1 + before[line_start..].chars().count())
}

/// The parser's message without the position that it ends with: the diagnostic shows it.
fn plain_message(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    match text.find(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The text of a scalar, as a key or an axis value prints it.
pub fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Seed<'s>(&'s RefCell<Vec<Irregular>>);

impl Seed<'_> {
    fn note(self, what: Irregular) {
        self.0.borrow_mut().push(what);
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Value, E> {
        self.visit_f64(number as f64)
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Value, E> {
        self.visit_f64(number as f64)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(match Number::from_f64(number) {
            Some(number) => canonical(&Value::Number(number)),
            None => {
                self.note(Irregular::NotFinite);
                Value::Null
            }
        })
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Map::new();
        let mut merged = Vec::new();
        while let Some(key) = map.next_key_seed(self)? {
            let value = map.next_value_seed(self)?;
            match scalar_text(&key) {
                None => self.note(Irregular::Key),
                Some(key) if key == "<<" => {
                    self.note(Irregular::Merge);
                    merged.push(value);
                }
                Some(key) if entries.contains_key(&key) => self.note(Irregular::Duplicate(key)),
                Some(key) => {
                    entries.insert(key, value);
                }
            }
        }
        // A merge is refused; what it says is taken all the same, so that it does not look as if it were missing.
        for (key, value) in merged.into_iter().filter_map(into_map).flatten() {
            entries.entry(key).or_insert(value);
        }
        Ok(Value::Object(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        let (tag, content) = data.variant_seed(self)?;
        self.note(Irregular::Tag(scalar_text(&tag).unwrap_or_default()));
        content.newtype_variant_seed(self)
    }
}

fn into_map(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_keep_their_types_and_numbers_their_canonical_spelling() {
        let parsed = parse("a: 5.0\nb: 2e-4\nc: yes\n8: [true, null, '1']\n").unwrap();
        assert_eq!(parsed.value, json!({"a": 5, "b": 0.0002, "c": "yes", "8": [true, null, "1"]}));
        assert_eq!(parsed.irregular, []);
    }

    #[test]
    fn what_a_pipeline_does_not_allow_is_noted() {
        let parsed = parse("a: 1\na: 2\nb: {<<: {x: 1}}\nc: !t 1\nd: .nan\n? [x]\n: 1\n").unwrap();
        assert_eq!((&parsed.value["a"], &parsed.value["b"]["x"]), (&json!(1), &json!(1)));
        let expected = [
            Irregular::Duplicate("a".into()),
            Irregular::Merge,
            Irregular::Tag("t".into()),
            Irregular::NotFinite,
            Irregular::Key,
        ];
        assert_eq!(parsed.irregular, expected);
    }

    #[test]
    fn syntax_errors_have_a_position() {
        let error = parse("a: [1\nb: 2\n").unwrap_err();
        assert!(error.at.is_some(), "{error:?}");
        assert!(!error.message.contains("at line"), "{error}");
    }

    #[test]
    fn brackets_in_texts_are_no_depth() {
        let open = "[{".repeat(2_000);
        let text = format!("# {open}\nrun: |\n  {open}\n  {open}\nquoted: '{open}'\n");
        assert_eq!(parse(&text).unwrap().value["quoted"], json!(open));
        assert!(parse(&format!("{text}tag: !t 1\n")).is_ok());
        assert!(parse(&format!("{text}deep: {open}")).unwrap_err().message.contains("too deep"));
    }

    #[test]
    fn hostile_texts_are_refused_without_harm() {
        for open in ["[", "{a: "] {
            assert_eq!(parse(&open.repeat(100_000)).unwrap_err().message, "brackets nest too deep");
        }
        let bomb: String = (1..30).map(|i| format!("a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1)).collect();
        assert!(parse(&format!("a0: &a0 x\n{bomb}")).is_err());
    }
}
