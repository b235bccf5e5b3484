//! What can only be said once parameters are known: types of inputs, and what a command's `run` names.

use neftpipe_protocol::params::command::{Field, Piece, param, pieces};
use neftpipe_protocol::{ArtifactType, Kind};
use serde_json::Value;

use super::doubt::Doubts;
use super::model::{InputRef, Instance};
use super::problem::{Code, Place, Problem, listed, nearest};
use super::stage::{Draft, Need, stage_place};
use super::together;

/// Parameters that say which outputs a stage has, and of which types.
const DECIDE_OUTPUTS: [&str; 4] = ["as", "format", "full", "outputs"];

/// The inputs of an instance: the output of each need, its type checked.
pub fn connect(
    draft: &Draft,
    inputs: &[Vec<usize>],
    instances: &[Instance],
    doubts: &[Doubts],
    problems: &mut Vec<Problem>,
) -> indexmap::IndexMap<String, Vec<InputRef>> {
    let mut slots = indexmap::IndexMap::with_capacity(draft.needs.len());
    for (need, found) in draft.needs.iter().zip(inputs) {
        let slot: &mut Vec<InputRef> = slots.entry(need.slot.clone()).or_default();
        slot.reserve_exact(found.len());
        for &instance in found {
            let output = match &need.reference.output {
                Some((output, _)) => output.as_str(),
                None => instances[instance].plain_output(),
            };
            let is_told = !DECIDE_OUTPUTS.iter().any(|key| doubts[instance].touch(key));
            if let Some(problem) = is_told.then(|| check_type(draft, need, &instances[instance], output)).flatten() {
                problems.push(problem);
                break;
            }
            slot.push(InputRef { instance, output: output.to_owned(), gathered: need.list });
        }
    }
    slots
}

fn check_type(draft: &Draft, need: &Need, from: &Instance, output: &str) -> Option<Problem> {
    let Some(found) = from.outputs.get(output) else {
        let range = need.reference.output.as_ref().map(|(_, range)| range.clone()).unwrap_or_default();
        let message = format!("`{}` has no output `{output}`", from.stage);
        let problem = Problem::new(Code::UnknownOutput, need.within(&draft.name, range), message);
        return Some(problem.suggest(output, from.outputs.keys().map(String::as_str)));
    };
    let (slot, found) = (need.takes?, (*found)?);
    if slot.types.contains(&found) {
        return None;
    }
    let wanted = listed(&slot.types.iter().map(ToString::to_string).collect::<Vec<_>>());
    let message = format!("the slot `{}` of `{}` wants {wanted}, not `{found}`", slot.name, draft.kind);
    let problem = Problem::new(Code::SlotType, need.place(&draft.name), message)
        .label(format!("`{}` is of type `{found}`", need.reference));
    Some(match fitting(from, slot.types) {
        Some(other) => problem.hint(format!("did you mean `{}.{other}`?", from.stage)),
        None if found == ArtifactType::Model && from.kind == Kind::Train => {
            problem.hint("`full: true` yields a model: hand it to the slot `model`")
        }
        None if from.kind == Kind::Download => problem.hint(format!("`as` of `{}` says what it is", from.stage)),
        None => problem,
    })
}

fn fitting<'i>(from: &'i Instance, types: &[ArtifactType]) -> Option<&'i str> {
    let fits = |found: &Option<ArtifactType>| found.is_some_and(|found| types.contains(&found));
    from.outputs.iter().find(|(_, found)| fits(found)).map(|(name, _)| name.as_str())
}

/// Checks of an instance that no schema can make.
pub fn check_instance(
    draft: &Draft,
    index: usize,
    instances: &[Instance],
    doubts: &[Doubts],
    problems: &mut Vec<Problem>,
) {
    match draft.kind {
        Kind::Command => check_command(draft, &instances[index], &doubts[index], problems),
        _ => together::check(draft, index, instances, doubts, problems),
    }
}

/// What `run` names is there to be filled in, and what `key_ignore` leaves out.
fn check_command(draft: &Draft, instance: &Instance, doubts: &Doubts, problems: &mut Vec<Problem>) {
    let ignored = instance.params["key_ignore"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if !doubts.touch("params") {
        problems.extend(ignored.filter_map(|path| check_ignored(draft, instance, path)));
    }
    let run = instance.params["run"].as_str().unwrap_or_default();
    let mut before = "";
    for piece in pieces(run) {
        match piece {
            Piece::Text(text) => before = text,
            // `${params.x}` is the pipeline's, and is said elsewhere where it could not be filled in.
            Piece::Field(Field::Param(_)) if before.ends_with('$') => before = "",
            Piece::Field(field) => {
                if !says(field).iter().any(|key| doubts.touch(key)) {
                    problems.extend(check_field(draft, instance, field));
                }
                before = "";
            }
        }
    }
}

/// A path that the stage has for none of its instances is a slip: what it should have left out stays in the key.
fn check_ignored(draft: &Draft, instance: &Instance, path: &str) -> Option<Problem> {
    let params = &instance.params["params"];
    let name = path.strip_prefix("params.")?;
    let keys: Vec<&str> = path.split('.').collect();
    let layers = draft.axes.iter().flat_map(|axis| axis.values.iter().map(|value| &value.layer));
    let mut layers = layers.chain(draft.refine.iter().map(|refinement| &refinement.layer));
    if param(|name| params.get(name), name).is_some() || layers.any(|layer| layer.says(&keys)) {
        return None;
    }
    let place = param_place(draft, "key_ignore").spelling(path);
    let message = format!("`key_ignore` names the parameter `{name}`, which the stage does not have");
    let problem = Problem::warning(Code::NoEffect, place, message);
    let known = dotted_paths(params);
    Some(problem.suggest(name, known.iter().map(String::as_str)))
}

/// Parameters that say what there is to be filled in.
fn says(field: Field<'_>) -> &'static [&'static str] {
    match field {
        Field::Param(_) => &["params"],
        Field::Variable(_) => &["env", "secrets"],
        Field::Input(_) | Field::Out => &[],
    }
}

fn check_field(draft: &Draft, instance: &Instance, field: Field<'_>) -> Option<Problem> {
    let params = &instance.params["params"];
    let variables = || {
        let texts = |key: &str| instance.params[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        texts("env").chain(texts("secrets"))
    };
    let (what, name, known, to_add): (_, _, Vec<String>, _) = match field {
        Field::Out => return None,
        Field::Param(path) if param(|name| params.get(name), path).is_some() => return None,
        Field::Input(slot) if instance.inputs.contains_key(slot) => return None,
        Field::Variable(variable) if variables().any(|named| named == variable) => return None,
        Field::Param(path) => {
            ("parameter", path, dotted_paths(params), format!("give it a value: `params: {{ {path}: … }}`"))
        }
        Field::Input(slot) => {
            let slots = instance.inputs.keys().cloned().collect();
            ("input", slot, slots, format!("name what it is: `needs: {{ {slot}: … }}`"))
        }
        Field::Variable(variable) => {
            let named = variables().map(str::to_owned).collect();
            ("variable", variable, named, format!("list it: `env: [{variable}]`, or under `secrets`"))
        }
    };
    let place = param_place(draft, "run").spelling(field.to_string());
    let message = format!("`run` names the {what} `{name}`, which the stage does not have");
    let problem = Problem::new(Code::UnknownField, place, message).label(format!("`{}` has none", instance.id));
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    Some(match nearest(name, &known) {
        Some(_) => problem.suggest(name, known),
        None => problem.hint(to_add),
    })
}

/// Every way into nested parameters.
fn dotted_paths(params: &Value) -> Vec<String> {
    let entries = params.as_object().into_iter().flatten();
    entries
        .flat_map(|(name, value)| {
            let below = dotted_paths(value).into_iter().map(move |path| format!("{name}.{path}"));
            std::iter::once(name.clone()).chain(below)
        })
        .collect()
}

/// Where a stage says a parameter; its kind where it comes from elsewhere.
pub fn param_place(draft: &Draft, key: &str) -> Place {
    let kind = stage_place(&draft.name, &[draft.kind.name()]);
    if draft.params.says(&[key]) { kind.below(&[key]) } else { kind.key_part() }
}
