//! A set of parameters from one place: the defaults, a stage, a label of an axis, a profile, a `--set`.

use neftpipe_protocol::Kind;
use serde_json::{Map, Value};

use super::problem::{Code, Path, Place, Problem, Segment};
use super::shape::{self, Shape};
use super::stage::place_of_stage_key;

/// Parameters, nested, with the place that they come from.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The parameters.
    pub value: Value,
    /// The map that says them, or the one value that does.
    pub origin: Place,
    /// Whether the origin is the one value itself.
    pub single: bool,
}

impl Layer {
    /// Parameters that a map says; dotted keys are nested.
    pub fn of_map(map: &Map<String, Value>, path: &Path<'_>, problems: &mut Vec<Problem>) -> Self {
        Self { value: Value::Object(nest(map, path, problems)), origin: path.at_value(), single: false }
    }

    /// One parameter at a dotted path.
    pub fn of_value(dotted: &str, value: Value, path: &Path<'_>) -> Self {
        let value =
            dotted.rsplit('.').fold(value, |value, key| Value::Object(Map::from_iter([(key.to_owned(), value)])));
        Self { value, origin: path.at_value(), single: true }
    }

    /// The same, said at another place.
    #[must_use]
    pub fn at(mut self, origin: Place) -> Self {
        self.origin = origin;
        self
    }

    /// Says what is wrong with its values.
    pub fn check(&self, kind: Kind, problems: &mut Vec<Problem>) {
        let before = problems.len();
        shape::of(kind).check(&self.value, &Path::DOCUMENT, &format!("`{kind}`"), problems);
        for problem in &mut problems[before..] {
            if let Some(hint) = unknown_parameter(problem).and_then(|key| place_of_stage_key(kind, key)) {
                problem.hint = Some(hint);
            }
            // With a single value the keys above it are the axis's name; all that can be wrong is the value.
            problem.place = if self.single { self.origin.clone() } else { problem.place.under(&self.origin) };
        }
    }

    /// Whether it says something at or below a path.
    pub fn says(&self, path: &[&str]) -> bool {
        self.get(path).is_some()
    }

    /// Its value at a path.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(&self.value, |value, key| value.get(key))
    }

    /// The place of its value at a path.
    pub fn place(&self, path: &[&str]) -> Place {
        if self.single { self.origin.clone() } else { self.origin.below(path) }
    }

    /// The place of its key at a path.
    pub fn key_place(&self, path: &[&str]) -> Place {
        if self.single { self.origin.clone() } else { self.origin.below(path).key_part() }
    }

    /// Dotted paths of the parameters that it sets; a choice (`schedule`) is one parameter.
    pub fn paths(&self, kind: Kind) -> Vec<String> {
        let mut paths = Vec::new();
        leaves(shape::of(kind), &self.value, "", &mut paths);
        paths
    }
}

/// The key that a problem of parameters is about, where it is unknown and stands at their top.
fn unknown_parameter(problem: &Problem) -> Option<&str> {
    match &problem.place {
        Place::Node { path, .. } if problem.code == Code::UnknownKey => match path.as_slice() {
            [Segment::Key(key)] => Some(key),
            _ => None,
        },
        _ => None,
    }
}

fn leaves(shape: &Shape, value: &Value, prefix: &str, paths: &mut Vec<String>) {
    let deeper = matches!(shape, Shape::Struct(_) | Shape::Map(_));
    match (shape, value) {
        (Shape::Optional(inner), _) => leaves(inner, value, prefix, paths),
        (_, Value::Object(map)) if deeper && !map.is_empty() => {
            for (key, value) in map {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                leaves(shape.at(key).unwrap_or(&Shape::Any), value, &path, paths);
            }
        }
        (_, Value::Object(map)) if prefix.is_empty() && map.is_empty() => {}
        _ => paths.push(prefix.to_owned()),
    }
}

/// Whether two dotted paths mean the same parameter or one inside the other.
pub fn overlap(a: &str, b: &str) -> bool {
    let inside = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    inside(a, b) || inside(b, a)
}

/// Nests dotted keys: `{neft.alpha: 5}` is `{neft: {alpha: 5}}`.
pub fn nest(map: &Map<String, Value>, path: &Path<'_>, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let mut nested = Map::new();
    for (key, value) in map {
        if insert(&mut nested, key, value.clone()).is_err() {
            problems.push(
                Problem::new(Code::DuplicateKey, path.key(key).at_key(), format!("`{key}` is said twice here"))
                    .hint("a dotted path and a nested map set the same parameter"),
            );
        }
    }
    nested
}

/// Puts a value at a dotted path where nothing stands yet; maps are joined.
fn insert(target: &mut Map<String, Value>, dotted: &str, value: Value) -> Result<(), ()> {
    match dotted.split_once('.') {
        Some((head, rest)) => {
            let below = target.entry(head.to_owned()).or_insert_with(|| Value::Object(Map::new()));
            insert(below.as_object_mut().ok_or(())?, rest, value)
        }
        None => match (target.get_mut(dotted), value) {
            (None, value) => {
                target.insert(dotted.to_owned(), value);
                Ok(())
            }
            (Some(Value::Object(old)), Value::Object(new)) => {
                new.into_iter().try_for_each(|(key, value)| insert_plain(old, key, value))
            }
            _ => Err(()),
        },
    }
}

fn insert_plain(target: &mut Map<String, Value>, key: String, value: Value) -> Result<(), ()> {
    match (target.get_mut(&key), value) {
        (None, value) => {
            target.insert(key, value);
            Ok(())
        }
        (Some(Value::Object(old)), Value::Object(new)) => {
            new.into_iter().try_for_each(|(key, value)| insert_plain(old, key, value))
        }
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nested(value: Value) -> (Value, usize) {
        let mut problems = Vec::new();
        let nested = nest(value.as_object().unwrap(), &Path::DOCUMENT, &mut problems);
        (Value::Object(nested), problems.len())
    }

    #[test]
    fn dotted_keys_nest_and_join() {
        let value = json!({"neft.alpha": 5, "neft.schedule": {"step": {}}, "lora": {"rank": 1}, "lora.alpha": 2});
        let expected = json!({"neft": {"alpha": 5, "schedule": {"step": {}}}, "lora": {"rank": 1, "alpha": 2}});
        assert_eq!(nested(value), (expected, 0));
        assert_eq!(nested(json!({"neft.alpha": 5, "neft": {"alpha": 6}})).1, 1);
        assert_eq!(nested(json!({"neft": 5, "neft.alpha": 6})).1, 1);
    }

    #[test]
    fn a_choice_is_one_parameter() {
        let layer = Layer {
            value: json!({"neft": {"alpha": 1, "schedule": {"step": {"at": [1]}}}, "lora": {}}),
            origin: Path::DOCUMENT.at_value(),
            single: false,
        };
        assert_eq!(layer.paths(Kind::Train), ["neft.alpha", "neft.schedule", "lora"]);
    }

    #[test]
    fn paths_overlap_at_whole_keys() {
        assert!(overlap("neft", "neft.alpha") && overlap("neft.alpha", "neft"));
        assert!(!overlap("neft.al", "neft.alpha"));
    }
}
