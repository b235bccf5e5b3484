//! `--profile` and `--set`: values laid over the document, strongest last.
//!
//! What they say of `params`, `defaults` and of a stage's frame (resources, matrix, …) is put into the document; what they
//! say of a stage's parameters becomes its strongest layers. Profiles that were not asked for are checked all the same.

use std::collections::HashMap;

use neftpipe_protocol::Kind;
use serde_json::{Map, Value};

use super::check::{expect_map, unknown_key};
use super::document::{Document, Patch};
use super::layer::{Layer, nest};
use super::params::Params;
use super::problem::{Code, Path, Place, Problem, Segment, SourceId, nearest};
use super::shape;
use super::stage::{STAGE_KEYS, unknown_stage_key};

/// What the command line says over the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--set K=V`: a dotted path and its value in YAML, weakest first.
    pub set: Vec<(String, String)>,
    /// `--profile P`.
    pub profile: Option<String>,
}

/// A set of overrides: a profile, or one `--set`.
#[derive(Debug)]
pub struct OverrideSet {
    /// The document's form of it: nested, `params`, `defaults` and `stages` at the top.
    tree: Map<String, Value>,
    from: From,
    active: bool,
}

#[derive(Debug, Clone)]
enum From {
    Flag(SourceId),
    Profile(String),
}

/// An override of a stage's parameters.
#[derive(Debug)]
pub struct StageOverride {
    /// The parameters.
    pub layer: Layer,
    /// Whether it was asked for.
    pub active: bool,
    /// `--set`, or the profile, for people.
    pub said_by: String,
}

/// Overrides of parameters by stage.
pub type StageOverrides = HashMap<String, Vec<StageOverride>>;

/// Collects all override sets, profiles first.
pub fn collect(document: &mut Document, overrides: &Overrides, problems: &mut Vec<Problem>) -> Vec<OverrideSet> {
    let mut sets = Vec::new();
    let here = Path::DOCUMENT.key("profiles");
    for (name, value) in &document.profiles {
        let path = here.key(name);
        if let Some(map) = expect_map(value, &path, "a profile", problems) {
            let active = overrides.profile.as_ref() == Some(name);
            sets.push(OverrideSet { tree: nest(map, &path, problems), from: From::Profile(name.clone()), active });
        }
    }
    if let Some(wanted) = overrides.profile.as_ref().filter(|name| !document.profiles.contains_key(*name)) {
        problems.push(unknown_profile(document, wanted));
    }
    for (key, text) in &overrides.set {
        let id = document.sources.add_assignment("--set", format!("{key}={text}"));
        if let Some(parsed) = document.sources.parse(id, key.len() + 1, problems) {
            let map = Map::from_iter([(key.clone(), parsed.value)]);
            let tree = nest(&map, &Path::Root(Some(id)), problems);
            sets.push(OverrideSet { tree, from: From::Flag(id), active: true });
        }
    }
    sets
}

fn unknown_profile(document: &mut Document, wanted: &str) -> Problem {
    let id = document.sources.add_argument("--profile", wanted.to_owned());
    let place = Place::Bytes { source: id, range: 0..wanted.len() };
    let problem = Problem::new(Code::UnknownProfile, place, format!("the file has no profile `{wanted}`"));
    if let Some((_, file)) = document.profiles_elsewhere.iter().find(|(name, _)| name == wanted) {
        return problem.hint(format!(
            "{file} has it, but `include` brings in params, defaults and stages: declare it in the file that is run"
        ));
    }
    if document.profiles.is_empty() {
        return problem.hint("declare it under `profiles:`");
    }
    problem.suggest(wanted, document.profiles.keys().map(String::as_str))
}

impl OverrideSet {
    /// Puts its `params` into the document, and says what is none of the sections that can be overridden.
    pub fn apply_params(&mut self, document: &mut Document, problems: &mut Vec<Problem>) {
        let top = self.from.top();
        self.tree.retain(|section, _| {
            let known = ["params", "defaults", "stages"].contains(&section.as_str());
            if !known {
                problems.push(cannot_be_set(section, &top.key(section), document));
            }
            known
        });
        let Some(params) = self.tree.shift_remove("params") else { return };
        let here = top.key("params");
        let Some(params) = expect_map(&params, &here, "`params`", problems) else { return };
        for (name, value) in params {
            if !document.params.contains_key(name) {
                let place = here.key(name).at_key();
                let problem = Problem::new(Code::UnknownParam, place, format!("there is no parameter `{name}`"));
                problems.push(problem.suggest(name, document.params.keys().map(String::as_str)));
            } else if self.active {
                let target = document.params.entry(name.clone()).or_insert(Value::Null);
                merge_plain(target, value);
                self.patch(document, &["params", name], value);
            }
        }
    }

    /// Fills in `${params.x}`.
    pub fn fill(&mut self, params: &mut Params, problems: &mut Vec<Problem>) {
        let top = self.from.top();
        for (key, value) in &mut self.tree {
            params.fill(value, &top.key(key), problems);
        }
    }

    /// Puts what it says of defaults and of stages' frames into the document, and the rest into `layers`.
    pub fn apply(self, document: &mut Document, layers: &mut StageOverrides, problems: &mut Vec<Problem>) {
        let top = self.from.top();
        for (section, value) in &self.tree {
            let here = top.key(section);
            match section.as_str() {
                "defaults" => self.apply_defaults(value, &here, document, problems),
                "stages" => {
                    let Some(stages) = expect_map(value, &here, "`stages`", problems) else { continue };
                    for (stage, value) in stages {
                        self.apply_stage(stage, value, &here.key(stage), document, layers, problems);
                    }
                }
                _ => {}
            }
        }
    }

    fn apply_defaults(&self, value: &Value, here: &Path<'_>, document: &mut Document, problems: &mut Vec<Problem>) {
        let Some(kinds) = expect_map(value, here, "`defaults`", problems) else { return };
        for (name, value) in kinds {
            match name.parse::<Kind>() {
                Err(_) => problems.push(unknown_key(here, name, "`defaults`", Kind::ALL.map(Kind::name))),
                Ok(kind) if self.active => {
                    let target = document.defaults.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
                    shape::of(kind).merge(target, value);
                    self.patch(document, &["defaults", name], value);
                }
                Ok(_) => {}
            }
        }
    }

    fn apply_stage(
        &self,
        stage: &str,
        value: &Value,
        here: &Path<'_>,
        document: &mut Document,
        layers: &mut StageOverrides,
        problems: &mut Vec<Problem>,
    ) {
        let Some(own) = document.stages.get_mut(stage) else {
            let problem = Problem::new(Code::UnknownStage, here.at_key(), format!("there is no stage `{stage}`"));
            problems.push(problem.suggest(stage, document.stages.keys().map(String::as_str)));
            return;
        };
        let Some(entries) = expect_map(value, here, "an override of a stage", problems) else { return };
        let Some(own) = own.as_object_mut() else { return };
        let kind = Kind::ALL.into_iter().find(|kind| own.contains_key(kind.name()));
        let mut patched = Vec::new();
        for (key, value) in entries {
            let path = here.key(key);
            if kind.is_some_and(|kind| kind.name() == key) {
                let Some(map) = expect_map(value, &path, &format!("`{key}`"), problems) else { continue };
                let layer = Layer::of_map(map, &path, problems);
                let said_by = self.said_by();
                layers.entry(stage.to_owned()).or_default().push(StageOverride { layer, active: self.active, said_by });
            } else if STAGE_KEYS.contains(&key.as_str()) {
                if self.active {
                    let target = own.entry(key.clone()).or_insert(Value::Null);
                    let value = match (key.as_str(), kind) {
                        ("matrix", Some(kind)) => axes(kind, value, target),
                        _ => value.clone(),
                    };
                    if ["matrix", "refine"].contains(&key.as_str()) {
                        nest_labels(target);
                    }
                    merge_plain(target, &value);
                    patched.push((key, value));
                }
            } else {
                problems.push(unknown_stage_key(stage, kind, key, here));
            }
        }
        for (key, value) in patched {
            self.patch(document, &["stages", stage, key], &value);
        }
    }

    fn patch(&self, document: &mut Document, prefix: &[&str], value: &Value) {
        let patch = match &self.from {
            From::Flag(id) => Patch::Flag(*id),
            From::Profile(name) => Patch::Profile(name.clone()),
        };
        let path = prefix.iter().map(|key| Segment::Key((*key).to_owned())).collect();
        note_leaves(document, path, value, &patch);
    }

    fn said_by(&self) -> String {
        match &self.from {
            From::Flag(_) => "`--set`".to_owned(),
            From::Profile(name) => format!("the profile `{name}`"),
        }
    }
}

impl From {
    /// The top of its tree: of the flag's text, or the profile in the document.
    fn top(&self) -> Path<'_> {
        const PROFILES: Path<'static> = Path::Key(&Path::DOCUMENT, "profiles");
        match self {
            Self::Flag(id) => Path::Root(Some(*id)),
            Self::Profile(name) => Path::Key(&PROFILES, name),
        }
    }
}

fn cannot_be_set(key: &str, here: &Path<'_>, document: &Document) -> Problem {
    let problem = Problem::new(Code::BadOverride, here.at_key(), format!("`{key}` cannot be overridden"));
    if document.params.contains_key(key) {
        return problem.hint(format!("did you mean `params.{key}`?"));
    }
    if let Some(stage) = document.stages.get(key) {
        let kind = Kind::ALL.into_iter().find(|kind| stage.get(kind.name()).is_some());
        let kind = kind.map_or("…", Kind::name);
        return problem.hint(format!("a stage's parameters are `stages.{key}.{kind}.…`"));
    }
    match nearest(key, &["params", "stages", "defaults"]) {
        Some(name) => problem.hint(format!("did you mean `{name}`?")),
        None => problem.hint("paths begin with `params.NAME`, `stages.NAME.KIND.…` or `defaults.KIND.…`"),
    }
}

/// Axes that an override says: below `matrix` a dotted path is the name of a plain axis, unless a labelled one begins it.
fn axes(kind: Kind, value: &Value, declared: &Value) -> Value {
    let Value::Object(map) = value else { return value.clone() };
    let mut axes = Map::new();
    for (name, value) in map {
        let labelled = declared.get(name).is_some_and(Value::is_object) || shape::of(kind).at(name).is_none();
        if labelled { axes.extend([(name.clone(), value.clone())]) } else { flatten(name, value, &mut axes) }
    }
    Value::Object(axes)
}

/// Nests the dotted paths of labels, so that an override of one of them finds it.
fn nest_labels(axes: &mut Value) {
    let labels = axes.as_object_mut().into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut);
    for parameters in labels.flat_map(Map::values_mut) {
        if let Value::Object(map) = parameters {
            let mut twice = Vec::new();
            let nested = nest(map, &Path::DOCUMENT, &mut twice);
            // What stands twice is reported when the stage is read; until then it stays as it is.
            if twice.is_empty() {
                *parameters = Value::Object(nested);
            }
        }
    }
}

fn flatten(path: &str, value: &Value, axes: &mut Map<String, Value>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(&format!("{path}.{key}"), value, axes)),
        _ => axes.extend([(path.to_owned(), value.clone())]),
    }
}

/// Maps are joined, everything else replaced.
fn merge_plain(weaker: &mut Value, stronger: &Value) {
    match (&mut *weaker, stronger) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                merge_plain(below.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        _ => *weaker = stronger.clone(),
    }
}

fn note_leaves(document: &mut Document, path: Vec<Segment>, value: &Value, patch: &Patch) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let mut below = path.clone();
                below.push(Segment::Key(key.clone()));
                note_leaves(document, below, value, patch);
            }
        }
        _ => document.patched(path, patch.clone()),
    }
}
