//! Small checks that every part of the document shares: known keys, types, names.

use serde_json::{Map, Value};

use super::problem::{Code, Path, Problem};

/// What a value is, in prose.
pub fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// A value of another type than wanted.
pub fn wrong_type(value: &Value, path: &Path<'_>, what: &str, wanted: &str) -> Problem {
    let label = format!("this is {}", describe(value));
    Problem::new(Code::WrongType, path.at_value(), format!("{what} must be {wanted}")).label(label)
}

/// Says which keys of a map nothing reads.
pub fn check_keys(map: &Map<String, Value>, known: &[&str], path: &Path<'_>, what: &str, problems: &mut Vec<Problem>) {
    for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
        problems.push(unknown_key(path, key, what, known.iter().copied()));
    }
}

/// A key that nothing reads.
pub fn unknown_key<'n>(path: &Path<'_>, key: &str, what: &str, known: impl IntoIterator<Item = &'n str>) -> Problem {
    Problem::new(Code::UnknownKey, path.key(key).at_key(), format!("{what} has no key `{key}`")).suggest(key, known)
}

/// The map, or a problem.
pub fn expect_map<'v>(
    value: &'v Value,
    path: &Path<'_>,
    what: &str,
    problems: &mut Vec<Problem>,
) -> Option<&'v Map<String, Value>> {
    let map = value.as_object();
    if map.is_none() {
        problems.push(wrong_type(value, path, what, "a map of keys and values"));
    }
    map
}

/// The text, or a problem.
pub fn expect_text<'v>(value: &'v Value, path: &Path<'_>, what: &str, problems: &mut Vec<Problem>) -> Option<&'v str> {
    let text = value.as_str();
    if text.is_none() {
        let problem = wrong_type(value, path, what, "text");
        problems.push(if value.is_number() || value.is_boolean() { problem.hint("put it in quotes") } else { problem });
    }
    text
}

/// Whether references can spell this name of a stage or parameter.
pub fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}
