//! From layers to the parameters of one instance.
//!
//! Weakest first: the kind's own defaults, `defaults`, the stage, its matrix, `refine`, the profile, `--set`.

use std::collections::HashMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Mutex;

use indexmap::IndexMap;
use neftpipe_protocol::params::{self, Resolved, Template};
use neftpipe_protocol::{ArtifactType, Kind};
use serde_json::{Value, json};

use super::doubt::Doubts;
use super::expand::{Pick, Proto};
use super::layer::Layer;
use super::overrides::StageOverrides;
use super::problem::{Code, Place, Problem};
use super::shape;
use super::stage::{Draft, stage_place};
use super::yaml::scalar_text;

/// What instances' parameters are made of beside their stages.
pub struct Resolver<'r> {
    /// `defaults` by kind.
    pub defaults: &'r HashMap<Kind, Layer>,
    /// Profile and `--set`.
    pub overrides: &'r StageOverrides,
    /// Jinja files that were read.
    templates: Mutex<HashMap<PathBuf, Result<String, String>>>,
}

/// What came of the parameters of one instance.
pub struct Outcome {
    /// They themselves, where they can be read.
    pub resolved: Option<Resolved>,
    /// What of them cannot be gone by.
    pub doubts: Doubts,
    /// What is wrong with them, beyond what each layer says by itself.
    pub problems: Vec<Problem>,
}

/// The layers of one instance, weakest first.
struct Stack<'r> {
    kind: Kind,
    stage: &'r str,
    layers: Vec<&'r Layer>,
}

impl<'r> Resolver<'r> {
    /// A resolver.
    pub fn new(defaults: &'r HashMap<Kind, Layer>, overrides: &'r StageOverrides) -> Self {
        Self { defaults, overrides, templates: Mutex::default() }
    }

    /// The parameters of an instance, checked.
    pub fn resolve(&self, draft: &Draft, axes: &[String], proto: &Proto) -> Outcome {
        let stack = self.stack(draft, axes, proto);
        let mut problems = Vec::new();
        let mut value = stack.merge(&mut problems);
        let mut doubts = if draft.wrong_params { Doubts::take_out(draft.kind, &mut value) } else { Doubts::None };
        if !problems.is_empty() {
            ["full", "lora"].iter().for_each(|path| doubts.add(path));
        }
        self.read_template(draft, &mut value, &stack, &mut doubts, &mut problems);
        let missing = shape::of(draft.kind).missing(&value);
        let certain = missing.iter().filter(|path| !doubts.touch(path));
        problems.extend(certain.map(|path| stack.missing(path)));
        if !missing.is_empty() {
            return Outcome { resolved: None, doubts: Doubts::All, problems };
        }
        match params::resolve(draft.kind, value) {
            Ok(resolved) => {
                for (path, message) in &resolved.problems {
                    let all = [&[*path], params::goes_with(draft.kind, path)].concat();
                    if !all.iter().any(|path| doubts.touch(path)) {
                        problems.push(stack.bad_value(path, message));
                    }
                }
                resolved.problems.iter().for_each(|(path, _)| doubts.add(path));
                Outcome { resolved: Some(resolved), doubts, problems }
            }
            Err(error) => {
                let problem = || Problem::new(Code::BadValue, stack.kind_place(), error.to_string());
                problems.extend((!doubts.any()).then(problem));
                Outcome { resolved: None, doubts: Doubts::All, problems }
            }
        }
    }

    fn stack(&self, draft: &'r Draft, axes: &[String], proto: &'r Proto) -> Stack<'r> {
        let picks = proto.picks.iter().map(|pick| match pick {
            Pick::Listed(axis, value) => &draft.axes[*axis].values[*value].layer,
            Pick::Further(layer) => layer,
        });
        let refined = draft.refine.iter().filter(|refinement| {
            let at = axes.iter().position(|axis| *axis == refinement.axis);
            at.is_some_and(|at| scalar_text(&proto.values[at]).as_ref() == Some(&refinement.label))
        });
        let overrides = self.overrides.get(&draft.name).into_iter().flatten().filter(|set| set.active);
        let layers = self
            .defaults
            .get(&draft.kind)
            .into_iter()
            .chain([&draft.params])
            .chain(picks)
            .chain(refined.map(|refinement| &refinement.layer))
            .chain(overrides.map(|set| &set.layer))
            .collect();
        Stack { kind: draft.kind, stage: &draft.name, layers }
    }

    /// Puts the text of a Jinja file in the place of its path.
    fn read_template(
        &self,
        draft: &Draft,
        value: &mut Value,
        stack: &Stack<'_>,
        doubts: &mut Doubts,
        problems: &mut Vec<Problem>,
    ) {
        if !matches!(draft.kind, Kind::Tokenize | Kind::Generate) {
            return;
        }
        let Some(Value::String(name)) = value.get("template") else { return };
        if Template::NAMES.contains(&name.as_str()) {
            return;
        }
        let file = draft.folder.join(name);
        let mut templates = self.templates.lock().expect("no reader of templates panics");
        let text = templates.entry(file).or_insert_with_key(|file| read(file)).clone();
        match text {
            Ok(text) => value["template"] = json!({ "jinja": text }),
            Err(error) => {
                let message = format!("`{name}` is no template, and no file that can be read");
                let problem = Problem::new(Code::MissingFile, stack.place("template"), message).label(error);
                problems.push(problem.suggest(name, Template::NAMES));
                params::remove(value, "template");
                doubts.add("template");
            }
        }
    }
}

fn read(file: &FilePath) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| error.to_string())
}

impl Stack<'_> {
    /// Lays the layers over one another. `full: true` drops the `lora` of weaker layers.
    fn merge(&self, problems: &mut Vec<Problem>) -> Value {
        let shape = shape::of(self.kind);
        let full = self.full();
        let mut merged = json!({});
        for (index, layer) in self.layers.iter().enumerate() {
            let drops_lora = full.is_some_and(|full| index < full) && layer.value.get("lora").is_some();
            if !drops_lora {
                shape.merge(&mut merged, &layer.value);
            } else {
                let mut rest = layer.value.clone();
                params::remove(&mut rest, "lora");
                shape.merge(&mut merged, &rest);
            }
        }
        if let Some(full) = full.filter(|_| merged.get("lora").is_some()) {
            problems.push(
                Problem::new(
                    Code::Conflict,
                    self.key_place("lora"),
                    "`full: true` trains all weights: `lora` says nothing",
                )
                .also(self.layers[full].key_place(&["full"]), "full training is asked for here")
                .hint("say `full: false` beside this `lora`, or leave it out"),
            );
        }
        merged
    }

    /// The strongest layer that asks for full training, if none above it asks for the opposite.
    fn full(&self) -> Option<usize> {
        let strongest =
            self.layers.iter().rposition(|layer| layer.says(&["full"])).filter(|_| self.kind == Kind::Train)?;
        (self.layers[strongest].get(&["full"]) == Some(&Value::Bool(true))).then_some(strongest)
    }

    /// The strongest layer that says a path, or something above it.
    fn sayer<'k>(&self, keys: &'k [&'k str]) -> Option<(&Layer, &'k [&'k str])> {
        (1..=keys.len()).rev().find_map(|length| {
            let keys = &keys[..length];
            Some((*self.layers.iter().rev().find(|layer| layer.says(keys))?, keys))
        })
    }

    fn place(&self, path: &str) -> Place {
        let keys: Vec<&str> = path.split('.').collect();
        self.sayer(&keys).map_or_else(|| self.kind_place(), |(layer, keys)| layer.place(keys))
    }

    fn key_place(&self, path: &str) -> Place {
        let keys: Vec<&str> = path.split('.').collect();
        self.sayer(&keys).map_or_else(|| self.kind_place(), |(layer, keys)| layer.key_place(keys))
    }

    /// What stands for a parameter that no layer says.
    fn kind_place(&self) -> Place {
        stage_place(self.stage, &[self.kind.name()]).key_part()
    }

    fn missing(&self, path: &str) -> Problem {
        let message = format!("`{path}` of `{}` must be said", self.stage);
        let place = match path.rsplit_once('.') {
            Some((above, _)) => self.key_place(above),
            None => self.kind_place(),
        };
        let key = path.rsplit('.').next().unwrap_or(path);
        Problem::new(Code::MissingKey, place, message).hint(format!("write `{key}: …` in it"))
    }

    fn bad_value(&self, path: &str, message: &str) -> Problem {
        if path == "epochs" && message.contains("both") {
            return Problem::new(Code::Conflict, self.place(path), message)
                .label("`epochs` is said here")
                .also(self.place("steps"), "`steps` is said here")
                .hint("`steps: null` or `epochs: null` takes one of them back");
        }
        Problem::new(Code::BadValue, self.item_place(path, message), format!("`{path}`: {message}"))
    }

    /// The place of a value; of the one item that a message quotes, where it is a list.
    fn item_place(&self, path: &str, message: &str) -> Place {
        let keys: Vec<&str> = path.split('.').collect();
        let items = self.sayer(&keys).and_then(|(layer, keys)| layer.get(keys)?.as_array());
        let quoted = |item: &Value| item.as_str().is_some_and(|item| message.starts_with(&format!("`{item}`")));
        match items.and_then(|items| items.iter().position(quoted)) {
            Some(index) => self.place(path).item(index),
            None => self.place(path),
        }
    }
}

/// What an instance makes, the plain output first.
pub fn outputs(kind: Kind, full_params: &Value) -> IndexMap<String, Option<ArtifactType>> {
    let own = |name: &str, artifact| IndexMap::from([(name.to_owned(), artifact)]);
    let artifact = |value: &Value| serde_json::from_value::<ArtifactType>(value.clone()).ok();
    match kind {
        Kind::Download => {
            let said = artifact(&full_params["as"]);
            own("output", said.or_else(|| (!full_params["format"].is_null()).then_some(ArtifactType::Dataset)))
        }
        Kind::Command => match full_params["outputs"].as_object().filter(|outputs| !outputs.is_empty()) {
            Some(outputs) => outputs.iter().map(|(name, output)| (name.clone(), artifact(&output["as"]))).collect(),
            None => own("output", Some(ArtifactType::Files)),
        },
        _ => {
            let full = full_params["full"] == true;
            kind.outputs(full).iter().map(|(name, artifact)| ((*name).to_owned(), *artifact)).collect()
        }
    }
}
