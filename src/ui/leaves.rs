//! A nested value as dotted paths.

use neftpipe_protocol::artifact::Metrics;
use serde_json::Value;

/// Every value that is no map, by its dotted path, in the order of the maps. An empty map is a value.
pub fn leaves(value: &Value) -> Metrics {
    let mut found = Metrics::new();
    collect("", value, &mut found);
    found
}

fn collect(path: &str, value: &Value, found: &mut Metrics) {
    match value {
        Value::Object(map) if path.is_empty() || !map.is_empty() => {
            for (name, inner) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(&path, inner, found);
            }
        }
        value => drop(found.insert(path.to_owned(), value.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn maps_are_opened_and_lists_are_not() {
        let found = leaves(&json!({ "a": { "b": 1, "c": [2, 3] }, "d": {}, "e": null }));
        let expected = json!({ "a.b": 1, "a.c": [2, 3], "d": {}, "e": null });
        assert_eq!(serde_json::to_value(found).unwrap(), expected);
        assert!(leaves(&json!({})).is_empty());
    }
}
