//! Axes that a stage declares, and combinations of them.

use std::collections::HashMap;

use neftpipe_protocol::Kind;
use serde_json::{Map, Value};

use super::check::{describe, expect_map, wrong_type};
use super::layer::{Layer, overlap};
use super::problem::{Code, Path, Place, Problem, listed, nearest};
use super::reference::RESERVED;
use super::shape;
use super::yaml::scalar_text;

/// An axis: a labelled one has a free name and parameters for each label; a plain one is named by the parameter that it sets.
#[derive(Debug)]
pub struct Axis {
    /// Its name.
    pub name: String,
    /// Whether its values are labels.
    pub labelled: bool,
    /// Its values, in the order of the file.
    pub values: Vec<AxisValue>,
    /// Where its name stands.
    pub place: Place,
    /// How many problems the parameters of its labels have.
    pub wrong_values: usize,
}

/// A value of an axis.
#[derive(Debug)]
pub struct AxisValue {
    /// The value; a label is text.
    pub value: Value,
    /// The parameters that it sets.
    pub layer: Layer,
}

/// Parameters for one label of an inherited axis.
#[derive(Debug)]
pub struct Refinement {
    /// The axis.
    pub axis: String,
    /// The label or printed value.
    pub label: String,
    /// The parameters.
    pub layer: Layer,
}

/// An entry of `exclude` or `include`: axes with the values that are meant.
#[derive(Debug)]
pub struct Combination {
    /// Axes, each with one value or, in `exclude`, several.
    pub entries: Vec<(String, Vec<Value>)>,
    /// `exclude` or `include`.
    key: &'static str,
    index: usize,
}

impl Axis {
    /// Understands an axis.
    pub fn parse(name: &str, value: &Value, kind: Kind, path: &Path<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        if name.contains(|c: char| RESERVED.contains(c) || c.is_whitespace()) || name.is_empty() {
            let message = format!("`{name}` cannot name an axis: references could not spell it");
            let problem = Problem::new(Code::BadName, path.at_key(), message);
            problems.push(problem.hint("use a name without spaces and without , = | [ ] *"));
            return None;
        }
        let (values, wrong_values) = match value {
            Value::Object(labels) => labelled(labels, kind, path, problems)?,
            Value::Array(items) => (plain(name, items, kind, path, problems)?, 0),
            _ => {
                let wanted = "a list of values, or a map of labels with their parameters";
                problems.push(wrong_type(value, path, &format!("the axis `{name}`"), wanted));
                return None;
            }
        };
        if values.is_empty() {
            let message = format!("the axis `{name}` has no values");
            problems.push(Problem::new(Code::BadAxis, path.at_key(), message).hint("give it some, or leave it out"));
            return None;
        }
        Some(Self { name: name.to_owned(), labelled: value.is_object(), values, place: path.at_key(), wrong_values })
    }

    /// Where it sets a parameter, if it does.
    pub fn setter(&self, kind: Kind, path: &str) -> Option<Place> {
        self.values.iter().find_map(|value| {
            let own = value.layer.paths(kind).into_iter().find(|own| overlap(own, path))?;
            let keys: Vec<&str> = own.split('.').collect();
            Some(if self.labelled { value.layer.key_place(&keys) } else { self.place.clone() })
        })
    }
}

fn labelled(
    labels: &Map<String, Value>,
    kind: Kind,
    path: &Path<'_>,
    problems: &mut Vec<Problem>,
) -> Option<(Vec<AxisValue>, usize)> {
    let mut values = Vec::with_capacity(labels.len());
    let (mut good, mut wrong) = (true, 0);
    let empty = Map::new();
    for (label, value) in labels {
        let path = path.key(label);
        if let Some(problem) = unspellable(label, path.at_key(), "a label") {
            problems.push(problem);
            good = false;
        }
        let map = match value {
            Value::Null => Some(&empty),
            _ => expect_map(value, &path, &format!("the label `{label}`"), problems),
        };
        let Some(map) = map else {
            good = false;
            continue;
        };
        let before = problems.len();
        let layer = Layer::of_map(map, &path, problems);
        layer.check(kind, problems);
        for problem in &mut problems[before..] {
            if problem.code == Code::UnknownKey && problem.hint.is_none() {
                problem.hint = Some(format!("a label sets parameters of `{kind}`, by dotted path"));
            }
        }
        wrong += problems.len() - before;
        values.push(AxisValue { value: Value::String(label.clone()), layer });
    }
    good.then_some((values, wrong))
}

fn plain(
    name: &str,
    items: &[Value],
    kind: Kind,
    path: &Path<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<AxisValue>> {
    if let Some(problem) = unknown_parameter(name, kind, path) {
        problems.push(problem);
        return None;
    }
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(items.len());
    let mut values = Vec::with_capacity(items.len());
    let before = problems.len();
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let Some(text) = scalar_text(item) else {
            let message = format!("{} cannot be a value of an axis by itself", describe(item));
            problems.push(
                Problem::new(Code::BadAxis, path.at_value(), message)
                    .hint(format!("give it a label: `{name}: {{ LABEL: {{ {name}: … }} }}`")),
            );
            continue;
        };
        problems.extend(unspellable(&text, path.at_value(), "a value of an axis"));
        if let Some(&first) = seen.get(&text) {
            problems.push(
                Problem::new(Code::BadAxis, path.at_value(), format!("`{text}` stands twice"))
                    .label("again here")
                    .also(axis_item(&path, first), "first here"),
            );
        }
        seen.insert(text, index);
        let layer = Layer::of_value(name, item.clone(), &path);
        layer.check(kind, problems);
        values.push(AxisValue { value: item.clone(), layer });
    }
    (problems.len() == before).then_some(values)
}

fn axis_item(path: &Path<'_>, index: usize) -> Place {
    match path {
        Path::Index(parent, _) => parent.index(index).at_value(),
        other => other.at_value(),
    }
}

/// Says that references could not spell a value, where that is so.
pub fn unspellable(text: &str, place: Place, what: &str) -> Option<Problem> {
    let is_spelled =
        !text.is_empty() && text.trim() == text && !text.contains(|c: char| RESERVED.contains(c) || c.is_control());
    let message = format!("`{text}` cannot be {what}: references could not spell it");
    (!is_spelled).then(|| {
        Problem::new(Code::BadAxis, place, message).hint(format!(
            "give it a label without {}",
            RESERVED.chars().map(|c| c.to_string()).collect::<Vec<_>>().join(" ")
        ))
    })
}

/// The name of a plain axis is a parameter path of the stage.
fn unknown_parameter(name: &str, kind: Kind, path: &Path<'_>) -> Option<Problem> {
    let shape = shape::of(kind);
    if shape.at_path(name).is_ok() {
        return None;
    }
    let message = format!("the axis `{name}` is no parameter of `{kind}`");
    let problem = Problem::new(Code::UnknownAxis, path.at_key(), message);
    if kind == Kind::Command {
        return Some(problem.hint(format!("parameters of a command are `params.{name}`")));
    }
    let paths = shape.paths();
    let names: Vec<&str> = paths.iter().map(String::as_str).collect();
    let same_end: Vec<&str> = names.iter().copied().filter(|path| path.rsplit('.').next() == Some(name)).collect();
    Some(match nearest(name, &names) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None if !same_end.is_empty() => {
            problem.hint(format!("did you mean {}?", listed(&same_end).replace(" and ", " or ")))
        }
        None => {
            problem.hint("a list of values sets the parameter that the axis is named for; a free name needs labels")
        }
    })
}

/// Says which axes set the same parameter.
pub fn check_conflicts(axes: &[Axis], kind: Kind, problems: &mut Vec<Problem>) {
    let mut setters: Vec<(String, usize, Place)> = Vec::new();
    for (index, axis) in axes.iter().enumerate() {
        let mut own: Vec<(String, Place)> = Vec::new();
        for value in &axis.values {
            for path in value.layer.paths(kind) {
                if !own.iter().any(|(known, _)| *known == path) {
                    let keys: Vec<&str> = path.split('.').collect();
                    let place = value.layer.key_place(&keys);
                    own.push((path, place));
                }
            }
        }
        for (path, place) in &own {
            if let Some((_, other, first)) = setters.iter().find(|(known, ..)| overlap(known, path)) {
                let message = format!("the axes `{}` and `{}` both set `{path}`", axes[*other].name, axis.name);
                problems.push(
                    Problem::new(Code::AxisConflict, place.clone(), message)
                        .label(format!("`{}` sets it here", axis.name))
                        .also(first.clone(), format!("`{}` sets it here", axes[*other].name)),
                );
            }
        }
        setters.extend(own.into_iter().map(|(path, place)| (path, index, place)));
    }
}

impl Combination {
    /// Understands an entry of `exclude` or `include`.
    pub fn parse(
        key: &'static str,
        index: usize,
        value: &Value,
        path: &Path<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let map = expect_map(value, path, "a combination", problems)?;
        let mut entries = Vec::with_capacity(map.len());
        for (axis, value) in map {
            let path = path.key(axis);
            let values = match value {
                Value::Array(items) if key == "exclude" => items.clone(),
                _ => vec![value.clone()],
            };
            if let Some(wrong) = values.iter().find(|value| scalar_text(value).is_none()) {
                let wanted = if key == "exclude" { "a value or a list of values" } else { "a value" };
                problems.push(wrong_type(wrong, &path, &format!("`{axis}`"), wanted));
                return None;
            }
            entries.push((axis.clone(), values));
        }
        if entries.is_empty() {
            let problem = Problem::new(Code::BadCombination, path.at_value(), format!("this `{key}` names no axis"));
            problems.push(problem.hint(format!("write `{key}: [{{ AXIS: VALUE }}]`")));
            return None;
        }
        Some(Self { entries, key, index })
    }

    /// Where an axis of it stands.
    pub fn place(&self, stage: &str, axis: Option<&str>) -> Place {
        let stages = Path::DOCUMENT.key("stages");
        let stage = stages.key(stage);
        let list = stage.key(self.key);
        let item = list.index(self.index);
        match axis {
            Some(axis) => item.key(axis).at_value(),
            None => item.at_value(),
        }
    }

    /// Whether it adds instances.
    pub fn adds(&self) -> bool {
        self.key == "include"
    }

    /// The values that it names for an axis.
    pub fn values(&self, axis: &str) -> Option<&[Value]> {
        self.entries.iter().find(|(name, _)| name == axis).map(|(_, values)| values.as_slice())
    }
}

/// Says that a name is no axis of a stage.
pub fn unknown_axis(place: Place, stage: &str, axis: &str, axes: &[String]) -> Problem {
    let problem = Problem::new(Code::UnknownAxis, place, format!("`{stage}` has no axis `{axis}`"));
    if axes.is_empty() {
        return problem.hint(format!("`{stage}` has no axes at all"));
    }
    match nearest(axis, &axes.iter().map(String::as_str).collect::<Vec<_>>()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint(format!("its axes are {}", listed(axes))),
    }
}
