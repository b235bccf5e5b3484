//! JSON Schema of a pipeline file, for completion and hover texts in editors.
//!
//! It is made of the schemas of the kinds' parameters. Wherever a value stands, `${params.x}` may stand too.

use neftpipe_protocol::{Kind, params};
use serde_json::{Map, Value, json};

/// The schema.
pub fn pipeline_schema() -> Value {
    let mut definitions = Map::new();
    definitions.insert("placeholder".into(), placeholder());
    for kind in Kind::ALL {
        let parameters = kind_schema(kind, &mut definitions);
        definitions.insert(format!("{kind}_parameters"), parameters);
    }
    definitions.insert("stage".into(), stage());
    definitions.insert("matrix".into(), matrix());
    definitions.insert("need".into(), need());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "neftpipe pipeline",
        "description": "A pipeline of stages for fine-tuning language models with NEFTune.",
        "type": "object",
        "properties": top_properties(),
        "required": ["version"],
        "additionalProperties": false,
        "$defs": definitions,
    })
}

fn top_properties() -> Value {
    let kinds: Map<String, Value> = Kind::ALL.iter().map(|kind| (kind.to_string(), parameters_of(*kind))).collect();
    json!({
        "version": { "description": "Version of the format: 1.", "const": 1 },
        "name": { "description": "Name of the pipeline; the file's stem where it is not said.", "type": "string" },
        "description": { "description": "What the pipeline is for.", "type": "string" },
        "include": {
            "description": "Files whose params, defaults and stages are brought in, relative to this one.",
            "type": "array", "items": { "type": "string" },
        },
        "params": {
            "description": "Named values, used as ${params.NAME}; `--set params.NAME=VALUE` overrides.",
            "type": "object",
        },
        "profiles": {
            "description": "Named sets of overrides, taken with `--profile NAME`: dotted paths with their values.",
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "propertyNames": { "pattern": "^(params|stages|defaults)(\\.|$)" },
            },
        },
        "defaults": {
            "description": "Parameters merged under every stage of a kind.",
            "type": "object", "properties": kinds, "additionalProperties": false,
        },
        "stages": {
            "description": "The stages, by name.",
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_-]*$" },
            "additionalProperties": { "$ref": "#/$defs/stage" },
        },
    })
}

fn stage() -> Value {
    let mut properties = json!({
        "label": { "description": "Name of the stage for people.", "type": "string" },
        "needs": {
            "description": "Inputs: a slot of the kind, and the stage that fills it, as NAME, NAME.output, NAME[axis=value] or NAME[*].",
            "type": "object",
            "additionalProperties": { "$ref": "#/$defs/need" },
        },
        "matrix": { "$ref": "#/$defs/matrix" },
        "refine": {
            "description": "Parameters for some labels of an inherited axis; the others keep the stage's.",
            "type": "object",
            "additionalProperties": { "type": "object", "additionalProperties": { "type": "object" } },
        },
        "exclude": {
            "description": "Combinations to leave out: some axes, each with a value or a list of values.",
            "type": "array", "items": { "type": "object" },
        },
        "include": {
            "description": "Combinations to add: every axis that the stage declares, with its value.",
            "type": "array", "items": { "type": "object" },
        },
        "resources": {
            "description": "What the stage may use of the machine.",
            "type": "object",
            "properties": {
                "gpus": {
                    "description": "`auto` takes one where there is a usable one; a number never runs on a CPU instead.",
                    "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 0 }, { "$ref": "#/$defs/placeholder" }],
                },
                "cpus": with_placeholder("CPU cores.", json!({ "type": "integer", "minimum": 1 })),
                "memory": { "description": "Memory with its unit: 8GiB, 500MB.", "type": "string" },
            },
            "additionalProperties": false,
        },
        "timeout": { "description": "The stage is stopped after this long: 90s, 2h, 1h30m.", "type": "string" },
        "retry": {
            "description": "What happens when the stage fails.",
            "type": "object",
            "properties": {
                "attempts": with_placeholder("Attempts in all.", json!({ "type": "integer", "minimum": 1 })),
                "backoff": { "description": "Wait before the second attempt, doubled before each further one: 5s.", "type": "string" },
            },
            "additionalProperties": false,
        },
    });
    for kind in Kind::ALL {
        properties[kind.name()] = parameters_of(kind);
    }
    let one_kind: Vec<Value> = Kind::ALL.iter().map(|kind| json!({ "required": [kind.name()] })).collect();
    json!({
        "description": "A stage: one kind, what it needs, and the axes that it adds.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "oneOf": one_kind,
    })
}

fn parameters_of(kind: Kind) -> Value {
    json!({ "anyOf": [{ "$ref": format!("#/$defs/{kind}_parameters") }, { "type": "null" }] })
}

fn matrix() -> Value {
    json!({
        "description": "Axes. A labelled axis has a free name and a set of parameters for each label; a plain one is named by the \
                        dotted parameter that its values set.",
        "type": "object",
        "additionalProperties": {
            "anyOf": [
                {
                    "description": "Labels with their parameters, by dotted path.",
                    "type": "object",
                    "additionalProperties": { "type": ["object", "null"] },
                },
                {
                    "description": "Values of the parameter that the axis is named for.",
                    "type": "array",
                    "items": { "type": ["string", "number", "boolean"] },
                    "minItems": 1,
                },
            ],
        },
    })
}

fn need() -> Value {
    let reference = json!({
        "description": "NAME, NAME.output, NAME[axis=value], NAME[axis=a|b], NAME[axis=*] or NAME[*]",
        "type": "string",
        "pattern": "^[^\\[\\]\\s]+(\\[[^\\[\\]]+\\])?$",
    });
    json!({ "anyOf": [reference, { "type": "array", "items": reference }] })
}

fn placeholder() -> Value {
    json!({
        "description": "A named value of `params`.",
        "type": "string",
        "pattern": "\\$\\{params\\.[A-Za-z0-9_.-]+\\}",
    })
}

/// The schema of a kind's parameters. Nothing is required: defaults, a matrix or a profile may say it.
fn kind_schema(kind: Kind, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = params::schema(kind).to_value();
    if let Some(Value::Object(own)) = schema.as_object_mut().and_then(|schema| schema.shift_remove("$defs")) {
        for (name, definition) in own {
            definitions.insert(format!("{kind}_{name}"), opened(definition, kind));
        }
    }
    let mut schema = opened(schema, kind);
    if let Some(schema) = schema.as_object_mut() {
        schema.shift_remove("$schema");
        schema.shift_remove("title");
        schema.shift_remove("required");
    }
    schema
}

/// A schema that also takes `${params.x}` for its scalars, its references pointing at the kind's own definitions.
fn opened(schema: Value, kind: Kind) -> Value {
    let Value::Object(map) = schema else { return schema };
    let mut opened: Map<String, Value> = map
        .into_iter()
        .map(|(key, value)| {
            let value = match (key.as_str(), value) {
                ("$ref", Value::String(path)) => Value::String(path.replace("#/$defs/", &format!("#/$defs/{kind}_"))),
                ("properties", Value::Object(properties)) => {
                    Value::Object(properties.into_iter().map(|(name, value)| (name, opened(value, kind))).collect())
                }
                ("items" | "additionalProperties", value) => opened(value, kind),
                ("anyOf" | "oneOf", Value::Array(forms)) => {
                    Value::Array(forms.into_iter().map(|form| opened_form(form, kind)).collect())
                }
                (_, value) => value,
            };
            (key, value)
        })
        .collect();
    if takes_placeholder(&opened) {
        let description = opened.shift_remove("description");
        let default = opened.shift_remove("default");
        let mut outer = json!({ "anyOf": [Value::Object(opened), { "$ref": "#/$defs/placeholder" }] });
        description.into_iter().for_each(|text| outer["description"] = text);
        default.into_iter().for_each(|value| outer["default"] = value);
        return outer;
    }
    if opened.get("oneOf").is_some() {
        let forms = opened.shift_remove("oneOf").and_then(|forms| forms.as_array().cloned()).unwrap_or_default();
        let forms = forms.into_iter().chain([json!({ "$ref": "#/$defs/placeholder" })]).collect();
        opened.insert("anyOf".into(), Value::Array(forms));
    }
    Value::Object(opened)
}

/// One of several forms: the placeholder stands beside them, not inside each.
fn opened_form(form: Value, kind: Kind) -> Value {
    if form.get("const").is_some() || form.get("type").is_some_and(|name| name == "null") {
        form
    } else {
        opened(form, kind)
    }
}

fn takes_placeholder(schema: &Map<String, Value>) -> bool {
    let scalar = |name: &Value| name == "integer" || name == "number" || name == "boolean";
    match schema.get("type") {
        Some(Value::Array(names)) => names.iter().any(scalar),
        Some(name) => {
            scalar(name) || (name == "string" && (schema.contains_key("enum") || schema.contains_key("pattern")))
        }
        None => false,
    }
}

fn with_placeholder(description: &str, schema: Value) -> Value {
    json!({ "description": description, "anyOf": [schema, { "$ref": "#/$defs/placeholder" }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_every_parameter_is_described() {
        let schema = pipeline_schema();
        let definitions = schema["$defs"].as_object().unwrap();
        let text = schema.to_string();
        for part in text.split("\"#/$defs/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(definitions.contains_key(name), "{name}");
        }
        for kind in Kind::ALL {
            for (name, property) in definitions[&format!("{kind}_parameters")]["properties"].as_object().unwrap() {
                assert!(property["description"].is_string(), "{kind}.{name}");
            }
        }
    }
}
