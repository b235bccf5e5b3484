//! Fields of a row by dotted path: `instances.0.output`.

use neftpipe_protocol::Failure;
use serde_json::Value;

use super::At;

/// The value at a path: a key of that very name, else key by key and index by index. A null is no value.
pub fn get<'a>(row: &'a Value, path: &str) -> Option<&'a Value> {
    let found = row.get(path).or_else(|| {
        path.split('.').try_fold(row, |value, part| match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            _ => value.get(part),
        })
    });
    found.filter(|value| !value.is_null())
}

/// The text at a path, if there is a value.
///
/// # Errors
/// Where the value is no text.
pub fn text(at: At, row: &Value, path: &str) -> Result<Option<String>, Failure> {
    match get(row, path) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(at.malformed(format_args!("field `{path}` is {}; a text is wanted", kind(other)))),
    }
}

/// The texts at a path: one, a list, or none.
///
/// # Errors
/// Where the value is neither a text nor a list of texts.
pub fn texts(at: At, row: &Value, path: &str) -> Result<Vec<String>, Failure> {
    let Some(Value::Array(items)) = get(row, path) else { return Ok(text(at, row, path)?.into_iter().collect()) };
    let one = |item: &Value| match item {
        Value::String(text) => Ok(text.clone()),
        other => Err(at.malformed(format_args!("field `{path}` holds {}; texts are wanted", kind(other)))),
    };
    items.iter().map(one).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_through_objects_and_lists() {
        let row = json!({"instances": [{"output": "o"}], "a.b": "plain", "n": null, "x": 3});
        assert_eq!(get(&row, "instances.0.output"), Some(&json!("o")));
        assert_eq!(get(&row, "a.b"), Some(&json!("plain")));
        assert_eq!((get(&row, "instances.1.output"), get(&row, "n"), get(&row, "x.y")), (None, None, None));
        let at = At { file: "f.json", row: 7 };
        let message = text(at, &row, "x").unwrap_err().message;
        assert_eq!(message, "f.json: row 7: field `x` is a number; a text is wanted");
        assert_eq!(texts(at, &json!({"r": ["a", "b"]}), "r").unwrap(), ["a", "b"]);
        assert_eq!(texts(at, &json!({"r": "a"}), "r").unwrap(), ["a"]);
    }
}
