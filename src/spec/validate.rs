//! What can only be said once parameters are known: types of inputs, and values that lean on the rest of the pipeline.

use std::collections::HashSet;

use neftpipe_protocol::judging::LOCAL;
use neftpipe_protocol::params::command::{Field, Piece, param, pieces};
use neftpipe_protocol::{ArtifactType, Kind};
use serde_json::Value;

use super::model::{InputRef, Instance};
use super::problem::{Code, Place, Problem, listed, nearest};
use super::stage::{Draft, Need, stage_place};
use super::yaml::scalar_text;

/// The inputs of an instance: the output of each need, its type checked.
pub fn connect(
    draft: &Draft,
    inputs: &[Vec<usize>],
    instances: &[Instance],
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
            if let Some(problem) = check_type(draft, need, &instances[instance], output) {
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
pub fn check_instance(draft: &Draft, instance: &Instance, instances: &[Instance], problems: &mut Vec<Problem>) {
    match instance.kind {
        Kind::Judge => check_judge(draft, instance, problems),
        Kind::Tokenize if instance.params["decontaminate"] == true && !instance.inputs.contains_key("exclude") => {
            problems.push(
                Problem::warning(
                    Code::NoEffect,
                    param_place(draft, "decontaminate"),
                    "`decontaminate` drops rows that the input `exclude` holds, and there is none",
                )
                .hint("name the prompts: `needs: { exclude: … }`"),
            );
        }
        Kind::Report => check_report(draft, instance, instances, problems),
        Kind::Command => check_command(draft, instance, problems),
        _ => {}
    }
}

/// A judge has all that it needs before it is asked, which may cost money.
fn check_judge(draft: &Draft, instance: &Instance, problems: &mut Vec<Problem>) {
    let Some(annotator) = instance.params["annotator"].as_str() else { return };
    let mut need = |slot: &str, key: &str, message: String| {
        if !instance.inputs.contains_key(slot) {
            let problem = Problem::new(Code::MissingSlot, param_place(draft, key), message);
            problems.push(problem.hint(format!("name it: `needs: {{ {slot}: … }}`")));
        }
    };
    if annotator == LOCAL {
        need("model", "annotator", "a local annotator needs the model that judges".to_owned());
    } else {
        need("reference", "annotator", format!("`{annotator}` needs the answers to compare with"));
        need("annotators", "annotator", format!("`{annotator}` needs the files that hold its prompt"));
    }
    if !instance.params["calibrate"].is_null() {
        need("calibrate", "calibrate", "calibration needs published annotations".to_owned());
    }
}

/// What `run` names is there to be filled in.
fn check_command(draft: &Draft, instance: &Instance, problems: &mut Vec<Problem>) {
    let run = instance.params["run"].as_str().unwrap_or_default();
    let mut before = "";
    for piece in pieces(run) {
        match piece {
            Piece::Text(text) => before = text,
            // `${params.x}` is the pipeline's, and is said elsewhere where it could not be filled in.
            Piece::Field(Field::Param(_)) if before.ends_with('$') => before = "",
            Piece::Field(field) => {
                problems.extend(check_field(draft, instance, field));
                before = "";
            }
        }
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

/// Axes that a report names are axes of what it is given, and so are the values of its baseline.
fn check_report(draft: &Draft, instance: &Instance, instances: &[Instance], problems: &mut Vec<Problem>) {
    let given: Vec<&Instance> = instance.inputs.values().flatten().map(|input| &instances[input.instance]).collect();
    let axes: indexmap::IndexSet<&str> =
        given.iter().flat_map(|instance| instance.axes.keys()).map(String::as_str).collect();
    let unknown = |place: Place, axis: &str| {
        let problem = Problem::new(Code::UnknownAxis, place, format!("no input of the report has an axis `{axis}`"));
        problem.suggest(axis, axes.iter().copied())
    };
    for key in ["rows", "columns", "replicate"] {
        if let Some(axis) = instance.params[key].as_str().filter(|axis| !axes.contains(axis)) {
            problems.push(unknown(param_place(draft, key), axis));
        }
    }
    for (axis, value) in instance.params["baseline"].as_object().into_iter().flatten() {
        let place = stage_place(&draft.name, &[draft.kind.name(), "baseline", axis]);
        if !axes.contains(axis.as_str()) {
            problems.push(unknown(place.key_part(), axis));
            continue;
        }
        let texts: HashSet<String> =
            given.iter().filter_map(|given| given.axes.get(axis)).filter_map(scalar_text).collect();
        let text = scalar_text(value).unwrap_or_default();
        if !texts.contains(&text) {
            let mut names: Vec<&str> = texts.iter().map(String::as_str).collect();
            names.sort_unstable();
            let message = format!("the axis `{axis}` has no value `{text}`");
            problems.push(Problem::new(Code::UnknownAxisValue, place, message).suggest(&text, names));
        }
    }
}

/// Where a stage says a parameter; its kind where it comes from elsewhere.
fn param_place(draft: &Draft, key: &str) -> Place {
    let kind = stage_place(&draft.name, &[draft.kind.name()]);
    if draft.params.says(&[key]) { kind.below(&[key]) } else { kind.key_part() }
}
