//! JSON Schema of a pipeline file, for completion and hover texts in editors.
//!
//! It is made of the schemas of the kinds' parameters. Wherever a value stands, `${params.x}` may stand too.

mod paths;

use neftpipe_protocol::kind::Arity;
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
    for kind in Kind::ALL {
        let paths = paths::of(&definitions[&format!("{kind}_parameters")], &definitions);
        definitions.insert(format!("{kind}_axes"), axes(&paths));
        definitions.insert(format!("{kind}_paths"), json!({ "type": "object", "properties": paths }));
        definitions.insert(format!("{kind}_needs"), needs(kind));
    }
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
    let own: Vec<Value> = Kind::ALL.iter().map(|kind| of_its_kind(*kind)).collect();
    let one_kind: Vec<Value> = Kind::ALL.iter().map(|kind| json!({ "required": [kind.name()] })).collect();
    json!({
        "description": "A stage: one kind, what it needs, and the axes that it adds.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "oneOf": one_kind,
        "allOf": own,
    })
}

fn parameters_of(kind: Kind) -> Value {
    json!({
        "description": kind_text(kind),
        "anyOf": [{ "$ref": format!("#/$defs/{kind}_parameters") }, { "type": "null" }],
    })
}

fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Download => "Brings files from a source and normalises them.",
        Kind::Tokenize => "Renders templates and turns text into tokens; keeps rows out of training.",
        Kind::Train => "Fine-tunes a model, with NEFTune's noise where `neft.alpha` is above 0.",
        Kind::Generate => "Answers prompts.",
        Kind::Judge => "Measures answers, and compares them with others'.",
        Kind::Report => "Writes the page.",
        Kind::Command => "Runs a shell command of your own.",
    }
}

/// What a stage of a kind offers in `needs`, `matrix` and `refine`: its slots, and its parameters by dotted path.
fn of_its_kind(kind: Kind) -> Value {
    let labels = json!({ "additionalProperties": { "$ref": format!("#/$defs/{kind}_paths") } });
    json!({
        "if": { "required": [kind.name()] },
        "then": { "properties": {
            "needs": { "$ref": format!("#/$defs/{kind}_needs") },
            "matrix": { "$ref": format!("#/$defs/{kind}_axes") },
            "refine": { "additionalProperties": labels },
        } },
    })
}

/// Plain axes by the parameter that they are named for, and labelled ones.
fn axes(paths: &Map<String, Value>) -> Value {
    let plain = paths.iter().map(|(path, schema)| {
        let values = json!({ "type": "array", "items": { "type": ["string", "number", "boolean"] } });
        let description = schema.get("description").cloned().unwrap_or_default();
        (path.clone(), json!({ "description": description, "anyOf": [values, { "type": "object" }] }))
    });
    json!({ "properties": plain.collect::<Map<_, _>>() })
}

/// The slots of a kind; `command` takes any.
fn needs(kind: Kind) -> Value {
    let slots = kind.slots().unwrap_or_default().iter().map(|slot| {
        let types: Vec<String> = slot.types.iter().map(ToString::to_string).collect();
        let arity = match slot.arity {
            Arity::One => "",
            Arity::Optional => "; may be left out",
            Arity::List => "; any number",
        };
        let description = format!("Takes {}{arity}.", types.join(" or "));
        (slot.name.to_owned(), json!({ "description": description, "$ref": "#/$defs/need" }))
    });
    json!({ "properties": slots.collect::<Map<_, _>>() })
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
            let mut definition = opened(definition, kind);
            // What one layer leaves out another may say.
            if let Some(definition) = definition.as_object_mut() {
                definition.shift_remove("required");
            }
            definitions.insert(format!("{kind}_{name}"), definition);
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
        described(opened(form, kind))
    }
}

/// A form that is one key: what is said of the form is said of the key, which editors show.
fn described(mut form: Value) -> Value {
    let Some(description) = form.get("description").cloned() else { return form };
    let properties = form.get_mut("properties").and_then(Value::as_object_mut);
    if let Some(property) = properties.and_then(|properties| properties.values_mut().next()?.as_object_mut()) {
        property.entry("description").or_insert(description);
    }
    form
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
        let mut silent = Vec::new();
        definitions.iter().for_each(|(name, definition)| undescribed(name, definition, definitions, &mut silent));
        undescribed("", &schema, definitions, &mut silent);
        assert_eq!(silent, Vec::<String>::new());
    }

    /// Every property that has no text to hover over.
    fn undescribed(path: &str, schema: &Value, definitions: &Map<String, Value>, silent: &mut Vec<String>) {
        let referred = |property: &Value| {
            let name = property["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")).unwrap_or_default();
            definitions.get(name).is_some_and(|definition| definition["description"].is_string())
        };
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if !property["description"].is_string() && !referred(property) {
                silent.push(path.clone());
            }
            undescribed(&path, property, definitions, silent);
        }
        for form in ["anyOf", "oneOf"].iter().flat_map(|key| schema[key].as_array().into_iter().flatten()) {
            undescribed(path, form, definitions, silent);
        }
    }

    #[test]
    fn a_matrix_offers_the_parameters_of_its_kind() {
        let schema = pipeline_schema();
        let axes = schema["$defs"]["train_axes"]["properties"].as_object().unwrap();
        for path in ["seed", "neft.alpha", "neft.schedule", "batch.size", "lora.rank"] {
            assert!(axes[path]["description"].is_string(), "{path}");
        }
        assert!(!axes.contains_key("neft.schedule.linear"), "a form is a value, no group");
        assert!(schema["$defs"]["generate_needs"]["properties"]["prompts"].is_object());
    }
}
