//! What a kind's parameters look like, made from their JSON Schema; and the checks that need it.
//!
//! serde stops at the first wrong value and does not say where it stands. This walk finds all of them, with their paths.

use std::str::FromStr;
use std::sync::OnceLock;

use indexmap::IndexMap;
use neftpipe_protocol::params::Device;
use neftpipe_protocol::{Kind, params};
use serde_json::{Map, Value};

use super::check::{unknown_key, wrong_type};
use super::problem::{Code, Path, Problem, listed};

/// The form of a value.
#[derive(Debug, Clone)]
pub enum Shape {
    /// Anything.
    Any,
    /// `true` or `false`.
    Bool,
    /// A whole number, from 0 up where it is unsigned.
    Integer {
        /// Whether it is never below 0.
        unsigned: bool,
    },
    /// A number.
    Number,
    /// Text.
    Text,
    /// A device of the machine.
    Device,
    /// A list, of a fixed length where one is said.
    List(Box<Shape>, Option<usize>),
    /// One item, or a list of them.
    OneOrMany(Box<Shape>),
    /// A value or nothing.
    Optional(Box<Shape>),
    /// A map of free keys.
    Map(Box<Shape>),
    /// A map of known keys.
    Struct(IndexMap<String, Field>),
    /// One of some names, or a map of one of some keys.
    Choice {
        /// The names.
        names: Vec<String>,
        /// The keys, with what they hold.
        tagged: IndexMap<String, Shape>,
    },
}

/// A known key.
#[derive(Debug, Clone)]
pub struct Field {
    /// What it holds.
    pub shape: Shape,
    /// Whether it must be said.
    pub required: bool,
}

/// The form of a kind's parameters.
pub fn of(kind: Kind) -> &'static Shape {
    static SHAPES: OnceLock<Vec<Shape>> = OnceLock::new();
    let shapes = SHAPES.get_or_init(|| {
        Kind::ALL.iter().map(|&kind| Shape::from_schema(params::schema(kind).as_value(), &Value::Null)).collect()
    });
    let index = Kind::ALL.iter().position(|&known| known == kind).expect("every kind is listed");
    &shapes[index]
}

impl Shape {
    fn from_schema(schema: &Value, definitions: &Value) -> Self {
        let definitions = schema.get("$defs").unwrap_or(definitions);
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
            return if name == "Device" { Self::Device } else { Self::from_schema(&definitions[name], definitions) };
        }
        if let Some(forms) = schema["anyOf"].as_array() {
            return Self::from_forms(forms, definitions);
        }
        if let Some(forms) = schema["oneOf"].as_array() {
            return Self::choice(forms, definitions);
        }
        if let Some(names) = schema["enum"].as_array() {
            let names = names.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            return Self::Choice { names, tagged: IndexMap::new() };
        }
        match &schema["type"] {
            Value::String(name) => Self::from_type(name, schema, definitions),
            Value::Array(names) => {
                let name = names.iter().filter_map(Value::as_str).find(|name| *name != "null");
                Self::Optional(Box::new(name.map_or(Self::Any, |name| Self::from_type(name, schema, definitions))))
            }
            _ => Self::Any,
        }
    }

    fn from_type(name: &str, schema: &Value, definitions: &Value) -> Self {
        match name {
            "boolean" => Self::Bool,
            "integer" => Self::Integer { unsigned: schema["minimum"].as_i64().is_some_and(|least| least >= 0) },
            "number" => Self::Number,
            "string" => Self::Text,
            "array" => {
                let length = schema["minItems"].as_u64().filter(|_| schema["minItems"] == schema["maxItems"]);
                let item = Self::from_schema(&schema["items"], definitions);
                Self::List(Box::new(item), length.map(|length| length as usize))
            }
            "object" => match schema["properties"].as_object() {
                Some(properties) => Self::Struct(fields(properties, &schema["required"], definitions)),
                None => Self::Map(Box::new(Self::from_schema(&schema["additionalProperties"], definitions))),
            },
            _ => Self::Any,
        }
    }

    fn from_forms(forms: &[Value], definitions: &Value) -> Self {
        let null = |form: &Value| form["type"] == "null";
        let shapes = || forms.iter().filter(|form| !null(form)).map(|form| Self::from_schema(form, definitions));
        let inner = match shapes().collect::<Vec<_>>().as_slice() {
            [only] => only.clone(),
            [item, Self::List(..)] => Self::OneOrMany(Box::new(item.clone())),
            _ => Self::Any,
        };
        if forms.iter().any(null) { Self::Optional(Box::new(inner)) } else { inner }
    }

    fn choice(forms: &[Value], definitions: &Value) -> Self {
        let mut names = Vec::new();
        let mut tagged = IndexMap::new();
        for form in forms {
            if let Some(name) = form["const"].as_str() {
                names.push(name.to_owned());
            }
            names.extend(form["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
            for (name, content) in form["properties"].as_object().into_iter().flatten() {
                tagged.insert(name.clone(), Self::from_schema(content, definitions));
            }
        }
        Self::Choice { names, tagged }
    }

    /// Says what is wrong with a value of this form. Keys that are not there are no concern here.
    pub fn check(&self, value: &Value, path: &Path<'_>, what: &str, problems: &mut Vec<Problem>) {
        match self {
            Self::Any => {}
            Self::Optional(_) if value.is_null() => {}
            Self::Optional(inner) => inner.check(value, path, what, problems),
            Self::Struct(fields) => match value.as_object() {
                Some(map) => check_fields(fields, map, path, what, problems),
                None => problems.push(wrong_type(value, path, what, "a map of keys and values")),
            },
            Self::Map(item) => match value.as_object() {
                Some(map) => map.iter().for_each(|(key, value)| item.check(value, &path.key(key), key, problems)),
                None => problems.push(wrong_type(value, path, what, "a map of keys and values")),
            },
            Self::List(item, length) => check_list(item, *length, value, path, what, problems),
            Self::OneOrMany(item) => match value {
                Value::Array(_) => check_list(item, None, value, path, what, problems),
                _ => item.check(value, path, what, problems),
            },
            Self::Choice { names, tagged } => check_choice(names, tagged, value, path, what, problems),
            Self::Bool | Self::Integer { .. } | Self::Number | Self::Text | Self::Device => {
                problems.extend(self.scalar_problem(value, path, what));
            }
        }
    }

    fn scalar_problem(&self, value: &Value, path: &Path<'_>, what: &str) -> Option<Problem> {
        let wanted = match (self, value) {
            (Self::Bool, Value::Bool(_)) | (Self::Number, Value::Number(_)) | (Self::Text, Value::String(_)) => {
                return None;
            }
            (Self::Integer { unsigned: true }, Value::Number(number)) if number.is_u64() => return None,
            (Self::Integer { unsigned: false }, Value::Number(number)) if !number.is_f64() => return None,
            (Self::Integer { .. }, Value::Number(number)) => {
                let wanted = if number.is_f64() { "a whole number" } else { "a whole number from 0 up" };
                let message = format!("{what} must be {wanted}, not {number}");
                return Some(Problem::new(Code::BadValue, path.at_value(), message));
            }
            (Self::Device, Value::String(text)) => {
                let message = Device::from_str(text).err()?;
                let problem = Problem::new(Code::BadValue, path.at_value(), message);
                return Some(match text.as_str() {
                    "gpu" => problem.hint("a GPU is called `cuda`"),
                    _ => problem.suggest(text, ["auto", "cpu", "cuda"]),
                });
            }
            (Self::Bool, _) => "`true` or `false`",
            (Self::Integer { .. }, _) => "a whole number",
            (Self::Number, _) => "a number",
            _ => "text",
        };
        let problem = wrong_type(value, path, what, wanted);
        Some(match (self, value) {
            (Self::Text | Self::Device, Value::Number(_) | Value::Bool(_)) => problem.hint("put it in quotes"),
            (Self::Integer { .. } | Self::Number, Value::String(text)) if text.parse::<f64>().is_ok() => {
                problem.hint("a number stands without quotes")
            }
            (Self::Bool, Value::String(text)) => match text.to_lowercase().as_str() {
                "yes" | "on" | "true" => problem.hint("write `true`"),
                "no" | "off" | "false" => problem.hint("write `false`"),
                _ => problem,
            },
            _ => problem,
        })
    }

    /// The keys below this form, if it has known ones.
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Self::Optional(inner) | Self::OneOrMany(inner) => inner.keys(),
            Self::Struct(fields) => fields.keys().map(String::as_str).collect(),
            Self::Choice { tagged, .. } => tagged.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The form at a key, if there can be one.
    pub fn at(&self, key: &str) -> Option<&Shape> {
        match self {
            Self::Any => Some(self),
            Self::Optional(inner) | Self::OneOrMany(inner) => inner.at(key),
            Self::Struct(fields) => fields.get(key).map(|field| &field.shape),
            Self::Choice { tagged, .. } => tagged.get(key),
            Self::Map(item) => Some(item),
            _ => None,
        }
    }

    /// The form at a dotted path, or how many of its keys are known and which ones follow there.
    pub fn at_path(&self, path: &str) -> Result<&Shape, (usize, Vec<&str>)> {
        let mut shape = self;
        for (index, key) in path.split('.').enumerate() {
            shape = shape.at(key).ok_or_else(|| (index, shape.keys()))?;
        }
        Ok(shape)
    }

    /// Every dotted path of a parameter.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for key in self.keys() {
            paths.push(key.to_owned());
            if let Some(Self::Struct(_)) = self.at(key).map(Self::inner) {
                let below = self.at(key).map(Self::paths).unwrap_or_default();
                paths.extend(below.into_iter().map(|path| format!("{key}.{path}")));
            }
        }
        paths
    }

    fn inner(&self) -> &Shape {
        match self {
            Self::Optional(inner) => inner.inner(),
            other => other,
        }
    }

    /// Lays a stronger value over a weaker one: maps are merged, but of a choice only one key can stand.
    pub fn merge(&self, weaker: &mut Value, stronger: &Value) {
        let (Value::Object(below), Value::Object(above)) = (&mut *weaker, stronger) else {
            *weaker = stronger.clone();
            return;
        };
        match self.inner() {
            Self::Any => *weaker = stronger.clone(),
            Self::Choice { .. } if !above.keys().all(|key| below.contains_key(key)) => *weaker = stronger.clone(),
            shape => {
                for (key, value) in above {
                    match below.get_mut(key) {
                        Some(old) => shape.at(key).unwrap_or(&Self::Any).merge(old, value),
                        None => {
                            below.insert(key.clone(), value.clone());
                        }
                    }
                }
            }
        }
    }

    /// Says which required keys of a whole value are absent, by dotted path.
    pub fn missing(&self, value: &Value) -> Vec<String> {
        let Value::Object(map) = value else { return Vec::new() };
        let below = |key: &str, shape: &Shape, value: &Value| -> Vec<String> {
            shape.missing(value).into_iter().map(|path| format!("{key}.{path}")).collect()
        };
        match self {
            Self::Optional(inner) => inner.missing(value),
            Self::Map(item) => map.iter().flat_map(|(key, value)| below(key, item, value)).collect(),
            Self::Choice { tagged, .. } => {
                map.iter().filter_map(|(key, value)| Some(below(key, tagged.get(key)?, value))).flatten().collect()
            }
            Self::Struct(fields) => fields
                .iter()
                .flat_map(|(key, field)| match map.get(key) {
                    Some(value) => below(key, &field.shape, value),
                    None if field.required => vec![key.clone()],
                    None => Vec::new(),
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

fn fields(properties: &Map<String, Value>, required: &Value, definitions: &Value) -> IndexMap<String, Field> {
    let required: Vec<&str> = required.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    properties
        .iter()
        .map(|(name, schema)| {
            let shape = Shape::from_schema(schema, definitions);
            (name.clone(), Field { shape, required: required.contains(&name.as_str()) })
        })
        .collect()
}

fn check_fields(
    fields: &IndexMap<String, Field>,
    map: &Map<String, Value>,
    path: &Path<'_>,
    what: &str,
    problems: &mut Vec<Problem>,
) {
    for (key, value) in map {
        match fields.get(key) {
            Some(field) => field.shape.check(value, &path.key(key), &format!("`{key}`"), problems),
            None => problems.push(unknown_field(fields, path, key, what)),
        }
    }
}

/// An unknown key; a dotted one is shown how to nest.
fn unknown_field(fields: &IndexMap<String, Field>, path: &Path<'_>, key: &str, what: &str) -> Problem {
    let problem = unknown_key(path, key, what, fields.keys().map(String::as_str));
    match key.split_once('.') {
        Some((head, rest)) if fields.contains_key(head) => {
            problem.hint(format!("dotted paths are for a matrix: write `{head}: {{ {rest}: … }}`"))
        }
        _ => problem,
    }
}

fn check_list(
    item: &Shape,
    length: Option<usize>,
    value: &Value,
    path: &Path<'_>,
    what: &str,
    problems: &mut Vec<Problem>,
) {
    let Some(items) = value.as_array() else {
        problems.push(wrong_type(value, path, what, "a list"));
        return;
    };
    if let Some(length) = length.filter(|&length| length != items.len()) {
        let message = format!("{what} must be a list of {length}, not of {}", items.len());
        problems.push(Problem::new(Code::BadValue, path.at_value(), message));
    }
    let what = format!("an item of {what}");
    for (index, value) in items.iter().enumerate() {
        item.check(value, &path.index(index), &what, problems);
    }
}

fn check_choice(
    names: &[String],
    tagged: &IndexMap<String, Shape>,
    value: &Value,
    path: &Path<'_>,
    what: &str,
    problems: &mut Vec<Problem>,
) {
    let all = || names.iter().map(String::as_str).chain(tagged.keys().map(String::as_str));
    match value {
        Value::String(name) if names.contains(name) => {}
        Value::String(name) => {
            let problem = Problem::new(Code::BadValue, path.at_value(), format!("{what} cannot be `{name}`"));
            problems.push(match tagged.get(name) {
                Some(shape) => problem.hint(format!("it takes values: `{{ {name}: {{ {} }} }}`", spelled(shape))),
                None => problem.suggest(name, all()),
            });
        }
        Value::Object(map) if !tagged.is_empty() => {
            if map.len() != 1 {
                let message = format!("{what} must be one of {}", listed(&all().collect::<Vec<_>>()));
                problems.push(Problem::new(Code::BadValue, path.at_value(), message).label("one key stands here"));
            }
            for (key, value) in map {
                match tagged.get(key) {
                    Some(shape) => shape.check(value, &path.key(key), &format!("`{key}`"), problems),
                    None => problems.push(unknown_key(path, key, what, all())),
                }
            }
        }
        _ => problems.push(wrong_type(value, path, what, &format!("one of {}", listed(&all().collect::<Vec<_>>())))),
    }
}

fn spelled(shape: &Shape) -> String {
    shape.keys().iter().map(|key| format!("{key}: …")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(kind: Kind, value: Value) -> Vec<String> {
        let mut problems = Vec::new();
        of(kind).check(&value, &Path::DOCUMENT, kind.name(), &mut problems);
        problems.into_iter().map(|problem| format!("{}: {}", problem.code, problem.message)).collect()
    }

    #[test]
    fn defaults_of_every_kind_pass_their_own_check() {
        for kind in Kind::ALL {
            assert_eq!(problems(kind, params::defaults(kind).clone()), Vec::<String>::new(), "{kind}");
        }
    }

    #[test]
    fn all_that_serde_refuses_is_found_with_its_place() {
        let wrong = json!({"steps": -1, "lora": {"rank": "8", "rnk": 1}, "neft": {"noise": "unifrom",
            "schedule": {"step": {"at": 1, "factor": 1}}}, "betas": [1], "device": "gpu", "shuffle": "no"});
        let expected = [
            "bad_value: `steps` must be a whole number from 0 up, not -1",
            "wrong_type: `rank` must be a whole number",
            "unknown_key: `lora` has no key `rnk`",
            "bad_value: `noise` cannot be `unifrom`",
            "wrong_type: `at` must be a list",
            "bad_value: `betas` must be a list of 2, not of 1",
            "bad_value: `gpu` is no device: auto, cpu, cuda or cuda:N",
            "wrong_type: `shuffle` must be `true` or `false`",
        ];
        assert_eq!(problems(Kind::Train, wrong), expected);
    }

    #[test]
    fn paths_lead_to_their_forms() {
        let train = of(Kind::Train);
        assert!(matches!(train.at_path("neft.alpha"), Ok(Shape::Number)));
        assert!(matches!(train.at_path("schedule.wsd.decay"), Ok(Shape::Number)));
        assert!(matches!(train.at_path("sparsity.scope"), Ok(Shape::Choice { .. })));
        assert_eq!(train.at_path("neft.alhpa").unwrap_err().0, 1);
        assert!(of(Kind::Command).at_path("params.x.y").is_ok());
        assert!(train.paths().contains(&"lora.rank".to_owned()));
    }

    #[test]
    fn merging_replaces_choices_and_joins_maps() {
        let train = of(Kind::Train);
        let mut value = json!({"lora": {"rank": 8}, "neft": {"schedule": {"linear": {"to": 0}}}});
        train.merge(&mut value, &json!({"lora": {"alpha": 1}, "neft": {"schedule": {"cosine": {"to": 1}}}}));
        assert_eq!(value, json!({"lora": {"rank": 8, "alpha": 1}, "neft": {"schedule": {"cosine": {"to": 1}}}}));
    }

    #[test]
    fn absent_required_keys_are_named() {
        assert_eq!(of(Kind::Download).missing(&json!({})), ["from"]);
        assert_eq!(of(Kind::Train).missing(&json!({"sparsity": {"scope": "delta"}})), ["sparsity.target"]);
        assert_eq!(of(Kind::Train).missing(&json!({"schedule": {"wsd": {}}})), ["schedule.wsd.decay"]);
    }
}
