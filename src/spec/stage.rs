//! One stage as the file says it: kind, needs, axes and the frame around its parameters.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use neftpipe_protocol::Kind;
use neftpipe_protocol::kind::{Arity, Slot};
use serde_json::{Map, Value};

use super::check::{expect_map, expect_text, unknown_key, wrong_type};
use super::frame::Frame;
use super::layer::Layer;
use super::matrix::{self, Axis, Combination, Refinement};
use super::model::{Resources, Retry};
use super::problem::{Code, Path, Place, Problem, listed, nearest};
use super::reference::Reference;
use super::shape;

/// Keys of a stage beside its kind.
pub const STAGE_KEYS: [&str; 9] =
    ["label", "needs", "matrix", "refine", "exclude", "include", "resources", "timeout", "retry"];

/// A stage, its parts understood one by one.
#[derive(Debug)]
pub struct Draft {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// Its name for people.
    pub label: Option<String>,
    /// References, in the order of `needs`.
    pub needs: Vec<Need>,
    /// Declared axes.
    pub axes: Vec<Axis>,
    /// Parameters for labels of inherited axes.
    pub refine: Vec<Refinement>,
    /// Combinations to leave out.
    pub exclude: Vec<Combination>,
    /// Combinations to add.
    pub include: Vec<Combination>,
    /// Its own parameters.
    pub params: Layer,
    /// What it may use.
    pub resources: Resources,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// What happens when it fails.
    pub retry: Retry,
    /// Folder of the file that it stands in.
    pub folder: Arc<FilePath>,
    /// Whether something is so wrong that its instances cannot be told.
    pub broken: bool,
    /// Whether a parameter is wrong by itself, and is to be left out where they are taken together.
    pub wrong_params: bool,
}

/// One reference of a slot.
#[derive(Debug)]
pub struct Need {
    /// The slot.
    pub slot: String,
    /// What the kind says of it; a `command` has free slots.
    pub takes: Option<&'static Slot>,
    /// The stage and axes.
    pub reference: Reference,
    /// Whether the slot holds a list.
    pub list: bool,
    /// Its index, where the file has a list.
    pub index: Option<usize>,
}

impl Need {
    /// Where it stands.
    pub fn place(&self, stage: &str) -> Place {
        self.with_path(stage, |path| path.at_value())
    }

    /// Bytes of its text.
    pub fn within(&self, stage: &str, range: std::ops::Range<usize>) -> Place {
        self.with_path(stage, |path| path.within(range))
    }

    fn with_path<T>(&self, stage: &str, then: impl FnOnce(&Path<'_>) -> T) -> T {
        let stages = Path::DOCUMENT.key("stages");
        let stage = stages.key(stage);
        let needs = stage.key("needs");
        let slot = needs.key(&self.slot);
        match self.index {
            Some(index) => then(&slot.index(index)),
            None => then(&slot),
        }
    }
}

/// The place of an entry of a stage.
pub fn stage_place(stage: &str, keys: &[&str]) -> Place {
    let stages = Path::DOCUMENT.key("stages");
    stages.key(stage).at_value().below(keys)
}

impl Draft {
    /// Understands a stage. None where it has no kind to go on with.
    pub fn parse(name: &str, value: &mut Value, folder: Arc<FilePath>, problems: &mut Vec<Problem>) -> Option<Self> {
        let stages = Path::DOCUMENT.key("stages");
        let here = stages.key(name);
        let map = expect_map(value, &here, "a stage", problems)?;
        let kind = kind_of(name, map, &here, problems)?;
        check_stage_keys(name, map, kind, &here, problems);

        let before = problems.len();
        let mut parser = Parser { kind, here: &here, map, problems, wrong_values: 0 };
        let needs = parser.needs();
        parser.check_slots(&needs);
        let axes = parser.axes();
        let refine = parser.refine();
        let exclude = parser.combinations("exclude");
        let include = parser.combinations("include");
        let wrong_values = parser.wrong_values;
        let broken = parser.problems.len() - before > wrong_values;
        let label = parser.label();
        let frame = Frame::parse(map, &here, problems);
        let before = problems.len();
        let params = params(kind, value.get_mut(kind.name()).map(Value::take).unwrap_or_default(), &here, problems);
        let wrong_params = wrong_values > 0 || problems.len() > before;
        Some(Self {
            name: name.to_owned(),
            kind,
            label,
            needs,
            axes,
            refine,
            exclude,
            include,
            params,
            resources: frame.resources,
            timeout: frame.timeout,
            retry: frame.retry,
            folder,
            broken,
            wrong_params,
        })
    }
}

fn kind_of(name: &str, map: &Map<String, Value>, here: &Path<'_>, problems: &mut Vec<Problem>) -> Option<Kind> {
    let kinds: Vec<Kind> = map.keys().filter_map(|key| key.parse().ok()).collect();
    match kinds.as_slice() {
        [kind] => Some(*kind),
        [] => {
            let wrong = map.keys().find(|key| !STAGE_KEYS.contains(&key.as_str()));
            let problem = match wrong {
                Some(key) => no_kind(key, here),
                None => {
                    let kinds = listed(&Kind::ALL.map(Kind::name));
                    Problem::new(Code::KindCount, here.at_key(), format!("the stage `{name}` has no kind"))
                        .hint(format!("give it one of the keys {kinds}"))
                }
            };
            problems.push(problem);
            None
        }
        [first, rest @ ..] => {
            let second = rest.first().copied().unwrap_or(*first);
            problems.push(
                Problem::new(
                    Code::KindCount,
                    here.key(second.name()).at_key(),
                    format!("the stage `{name}` has {} kinds", kinds.len()),
                )
                .label("another kind")
                .also(here.key(first.name()).at_key(), "the first kind")
                .hint("a stage does one thing: make two stages of it"),
            );
            None
        }
    }
}

/// A key where a kind should stand; a parameter of one is shown where it belongs.
fn no_kind(key: &str, here: &Path<'_>) -> Problem {
    let problem = Problem::new(Code::KindCount, here.key(key).at_key(), format!("`{key}` is no stage kind"));
    let kinds: Vec<&str> =
        Kind::ALL.iter().filter(|kind| shape::of(**kind).at(key).is_some()).map(|k| k.name()).collect();
    match kinds.as_slice() {
        [] => problem.suggest(key, Kind::ALL.map(Kind::name)),
        [kind] => {
            problem.hint(format!("it is a parameter of `{kind}`, one level down: write `{kind}: {{ {key}: … }}`"))
        }
        _ => problem.hint(format!("it is a parameter of {}, one level down: say which", listed(&kinds))),
    }
}

fn check_stage_keys(name: &str, map: &Map<String, Value>, kind: Kind, here: &Path<'_>, problems: &mut Vec<Problem>) {
    for key in map.keys() {
        if key == kind.name() || STAGE_KEYS.contains(&key.as_str()) {
            continue;
        }
        problems.push(unknown_stage_key(name, Some(kind), key, here));
    }
}

/// A key that no stage has; what is a parameter of its kind is shown its place.
pub fn unknown_stage_key(stage: &str, kind: Option<Kind>, key: &str, here: &Path<'_>) -> Problem {
    let names = STAGE_KEYS.iter().copied().chain(kind.map(Kind::name));
    let problem = unknown_key(here, key, &format!("the stage `{stage}`"), names.clone());
    let Some(kind) = kind else { return problem };
    match misplaced(key, &names.collect::<Vec<_>>(), &shape::of(kind).keys()) {
        Some(name) => problem.hint(format!(
            "{} a parameter of `{kind}`, one level down: put it under that key",
            asked_or_said(key, name)
        )),
        None => problem,
    }
}

/// A key among a stage's parameters that no parameter is called. What is a key of stages is shown its place.
pub fn place_of_stage_key(kind: Kind, key: &str) -> Option<String> {
    let name = misplaced(key, &shape::of(kind).keys(), &STAGE_KEYS)?;
    Some(format!(
        "{} a key of the stage, one level above its parameters: put it beside the stage's `{kind}`",
        asked_or_said(key, name)
    ))
}

/// The key of another level that is meant, where none of this one is.
fn misplaced<'n>(key: &str, here: &[&str], elsewhere: &[&'n str]) -> Option<&'n str> {
    let exact = elsewhere.iter().find(|name| **name == key).copied();
    exact.or_else(|| nearest(key, here).is_none().then(|| nearest(key, elsewhere))?)
}

fn asked_or_said(key: &str, name: &str) -> String {
    if key == name { "it is".to_owned() } else { format!("did you mean `{name}`? It is") }
}

/// A stage's own parameters, from the value of its kind.
fn params(kind: Kind, said: Value, here: &Path<'_>, problems: &mut Vec<Problem>) -> Layer {
    let path = here.key(kind.name());
    let value = match said {
        Value::Object(_) => said,
        Value::Null => Value::Object(Map::new()),
        other => {
            expect_map(&other, &path, &format!("`{kind}`"), problems);
            Value::Object(Map::new())
        }
    };
    let layer = Layer { value, origin: path.at_value(), single: false };
    layer.check(kind, problems);
    layer
}

struct Parser<'p> {
    kind: Kind,
    here: &'p Path<'p>,
    map: &'p Map<String, Value>,
    problems: &'p mut Vec<Problem>,
    /// How many of the problems are of parameters, and leave it clear which instances there are.
    wrong_values: usize,
}

impl<'p> Parser<'p> {
    /// A key's value, if it says anything.
    fn entry(&self, key: &'p str) -> Option<(&'p Value, Path<'p>)> {
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        Some((value, self.here.key(key)))
    }

    fn label(&mut self) -> Option<String> {
        let (value, path) = self.entry("label")?;
        expect_text(value, &path, "`label`", self.problems).map(str::to_owned)
    }

    fn needs(&mut self) -> Vec<Need> {
        let mut needs = Vec::new();
        let Some((value, path)) = self.entry("needs") else { return needs };
        let Some(slots) = expect_map(value, &path, "`needs`", self.problems) else { return needs };
        for (slot, value) in slots {
            let path = path.key(slot);
            let takes = match self.kind.slots() {
                None => None,
                Some(known) => match known.iter().find(|known| known.name == slot) {
                    Some(known) => Some(known),
                    None => {
                        self.unknown_slot(slot, &path, known);
                        continue;
                    }
                },
            };
            let list = takes.is_none_or(|slot| slot.arity == Arity::List);
            match value {
                Value::Array(items) if list => {
                    for (index, item) in items.iter().enumerate() {
                        let reference = self.reference(item, &path.index(index));
                        needs.extend(reference.map(|reference| Need {
                            slot: slot.clone(),
                            takes,
                            reference,
                            list: true,
                            index: Some(index),
                        }));
                    }
                }
                Value::Array(_) => self.problems.push(
                    Problem::new(Code::SlotArity, path.at_value(), format!("the slot `{slot}` takes one artifact"))
                        .label("this is a list"),
                ),
                _ => {
                    let reference = self.reference(value, &path);
                    needs.extend(reference.map(|reference| {
                        let list = takes.map_or(reference.gathers(), |slot| slot.arity == Arity::List);
                        Need { slot: slot.clone(), takes, reference, list, index: None }
                    }));
                }
            }
        }
        needs
    }

    /// Says which inputs a stage does not do without, and which references give a list where one artifact is wanted.
    fn check_slots(&mut self, needs: &[Need]) {
        for slot in self.kind.slots().unwrap_or_default() {
            let said = self.map.get("needs").is_some_and(|needs| needs.get(slot.name).is_some());
            if slot.arity == Arity::One && !said {
                let place = if self.map.contains_key("needs") { self.here.key("needs") } else { *self.here }.at_key();
                let types = listed(&slot.types.iter().map(ToString::to_string).collect::<Vec<_>>());
                let message = format!("`{}` needs an input `{}`", self.kind, slot.name);
                self.problems.push(
                    Problem::new(Code::MissingSlot, place, message)
                        .hint(format!("name the stage whose {types} it takes: `needs: {{ {}: … }}`", slot.name)),
                );
            }
        }
        for need in needs {
            if need.takes.is_some_and(|slot| slot.arity != Arity::List) && need.reference.gathers() {
                let needs = self.here.key("needs");
                self.problems.push(
                    Problem::new(
                        Code::SlotArity,
                        needs.key(&need.slot).at_value(),
                        format!("the slot `{}` takes one artifact", need.slot),
                    )
                    .label("this gathers a list")
                    .hint("fix each axis to one value, or leave it out so that it flows on"),
                );
            }
        }
    }

    fn unknown_slot(&mut self, slot: &str, path: &Path<'_>, known: &[Slot]) {
        let problem =
            Problem::new(Code::UnknownSlot, path.at_key(), format!("`{}` takes no input `{slot}`", self.kind));
        self.problems.push(if known.is_empty() {
            problem.hint(format!("`{}` takes no inputs at all", self.kind))
        } else {
            problem.suggest(slot, known.iter().map(|slot| slot.name))
        });
    }

    fn reference(&mut self, value: &Value, path: &Path<'_>) -> Option<Reference> {
        let text = expect_text(value, path, "a need", self.problems)?;
        match Reference::parse(text) {
            Ok(reference) => Some(reference),
            Err(error) => {
                self.problems.push(
                    Problem::new(Code::BadReference, path.within(error.range), error.message)
                        .hint("a need is written NAME, NAME.output, NAME[axis=value] or NAME[*]"),
                );
                None
            }
        }
    }

    fn axes(&mut self) -> Vec<Axis> {
        let Some((value, path)) = self.entry("matrix") else { return Vec::new() };
        let Some(axes) = expect_map(value, &path, "`matrix`", self.problems) else { return Vec::new() };
        let parsed: Vec<Axis> = axes
            .iter()
            .filter_map(|(name, value)| Axis::parse(name, value, self.kind, &path.key(name), self.problems))
            .collect();
        self.wrong_values += parsed.iter().map(|axis| axis.wrong_values).sum::<usize>();
        matrix::check_conflicts(&parsed, self.kind, self.problems);
        parsed
    }

    fn refine(&mut self) -> Vec<Refinement> {
        let Some((value, path)) = self.entry("refine") else { return Vec::new() };
        let Some(axes) = expect_map(value, &path, "`refine`", self.problems) else { return Vec::new() };
        let mut refinements = Vec::new();
        for (axis, value) in axes {
            let path = path.key(axis);
            let Some(labels) = expect_map(value, &path, &format!("`{axis}`"), self.problems) else { continue };
            for (label, value) in labels {
                let path = path.key(label);
                let Some(map) = expect_map(value, &path, "a refinement", self.problems) else { continue };
                let before = self.problems.len();
                let layer = Layer::of_map(map, &path, self.problems);
                layer.check(self.kind, self.problems);
                self.wrong_values += self.problems.len() - before;
                refinements.push(Refinement { axis: axis.clone(), label: label.clone(), layer });
            }
        }
        refinements
    }

    fn combinations(&mut self, key: &'static str) -> Vec<Combination> {
        let Some((value, path)) = self.entry(key) else { return Vec::new() };
        let Some(items) = value.as_array() else {
            self.problems.push(wrong_type(value, &path, &format!("`{key}`"), "a list of combinations"));
            return Vec::new();
        };
        let mut combinations = Vec::new();
        for (index, item) in items.iter().enumerate() {
            combinations.extend(Combination::parse(key, index, item, &path.index(index), self.problems));
        }
        combinations
    }
}
