//! The parameters of a kind by dotted path, as a matrix names them.

use serde_json::{Map, Value};

/// Every parameter of these, with its schema. A group of parameters is opened, its own path beside its parts'.
pub(super) fn of(schema: &Value, definitions: &Map<String, Value>) -> Map<String, Value> {
    let mut paths = Map::new();
    collect("", schema, definitions, &mut paths);
    paths
}

fn collect(above: &str, schema: &Value, definitions: &Map<String, Value>, paths: &mut Map<String, Value>) {
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        paths.insert(path.clone(), property.clone());
        if let Some(group) = group(property, definitions) {
            collect(&path, group, definitions, paths);
        }
    }
}

/// The group of parameters that a property is, if it is one: forms of which one is chosen are none.
fn group<'s>(property: &'s Value, definitions: &'s Map<String, Value>) -> Option<&'s Value> {
    let forms = property.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let referred = |schema: &'s Value| {
        let name = schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
        definitions.get(name).filter(|schema| schema.get("properties").is_some())
    };
    std::iter::once(property).chain(forms).find_map(referred)
}
