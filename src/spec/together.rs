//! Parameters that do not go together with a stage's inputs, or with how those are made.
//!
//! A worker would refuse them too, but hours later: after the stages that it needs.

use std::collections::HashSet;

use globset::Glob;
use indexmap::IndexSet;
use neftpipe_protocol::Kind;
use neftpipe_protocol::judging::{CUSTOM, LOCAL, NAMED};
use neftpipe_protocol::params::TrainParams;
use neftpipe_protocol::params::tokenize::{Contamination, TokenizeParams};
use neftpipe_protocol::params::train::Lora;
use serde_json::Value;

use super::doubt::Doubts;
use super::model::Instance;
use super::problem::{Code, Place, Problem};
use super::stage::{Draft, stage_place};
use super::validate::param_place;
use super::yaml::scalar_text;

/// Says what does not go together, of what there is no doubt about.
pub fn check(draft: &Draft, index: usize, instances: &[Instance], doubts: &[Doubts], problems: &mut Vec<Problem>) {
    let instance = &instances[index];
    match instance.kind {
        Kind::Tokenize if doubts[index].touch("decontaminate") => {}
        Kind::Tokenize => check_tokenize(draft, instance, problems),
        Kind::Train => check_train(draft, index, instances, doubts, problems),
        Kind::Judge => check_judge(draft, instance, &doubts[index], problems),
        Kind::Report => check_report(draft, instance, instances, problems),
        Kind::Download => check_download(draft, instance, problems),
        Kind::Generate | Kind::Command => {}
    }
}

/// Where a stage names an input.
fn slot_place(draft: &Draft, slot: &str) -> Place {
    stage_place(&draft.name, &["needs", slot])
}

fn missing_slot(draft: &Draft, key: &str, slot: &str, message: String) -> Problem {
    Problem::new(Code::MissingSlot, param_place(draft, key), message).hint(format!("name it: `needs: {{ {slot}: … }}`"))
}

fn check_download(draft: &Draft, instance: &Instance, problems: &mut Vec<Problem>) {
    for glob in instance.params["select"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if let Err(error) = Glob::new(glob) {
            let place = param_place(draft, "select").spelling(glob);
            problems.push(Problem::new(Code::BadValue, place, format!("`{glob}` is no pattern: {}", error.kind())));
        }
    }
}

/// What is to be kept out of training is there, and is kept out.
fn check_tokenize(draft: &Draft, instance: &Instance, problems: &mut Vec<Problem>) {
    let is_asked =
        instance.typed_params().is_ok_and(|params: TokenizeParams| params.contamination != Contamination::default());
    if instance.params["decontaminate"] != true && is_asked {
        let message = "`contamination` drops nothing without `decontaminate`";
        problems.push(
            Problem::warning(Code::NoEffect, param_place(draft, "contamination").key_part(), message)
                .hint("say `decontaminate: true`, or leave it out"),
        );
    }
    match (instance.params["decontaminate"] == true, instance.inputs.contains_key("exclude")) {
        (true, false) => {
            let message = "`decontaminate` drops rows that the input `exclude` holds, and there is none".to_owned();
            problems.push(missing_slot(draft, "decontaminate", "exclude", message));
        }
        (false, true) => {
            let message = "the input `exclude` drops nothing without `decontaminate`";
            problems.push(
                Problem::warning(Code::NoEffect, slot_place(draft, "exclude").key_part(), message)
                    .hint("say `decontaminate: true`, or leave the input out"),
            );
        }
        _ => {}
    }
}

/// What training starts from and goes by is there, and of the shape that it says.
fn check_train(draft: &Draft, index: usize, instances: &[Instance], doubts: &[Doubts], problems: &mut Vec<Problem>) {
    let (instance, own) = (&instances[index], &doubts[index]);
    let Ok(params) = instance.typed_params::<TrainParams>() else { return };
    let input = |slot: &str, goes_by: &[&str]| {
        let made = instance.inputs.get(slot)?.first()?.instance;
        (!goes_by.iter().any(|key| doubts[made].touch(key))).then(|| &instances[made])
    };
    let is_plain = !["full", "lora"].iter().any(|key| own.touch(key));
    if let Some(start) = input("adapter", &["full", "lora", "sparsity"]).filter(|_| is_plain) {
        let conflict = |message: String| Problem::new(Code::Conflict, slot_place(draft, "adapter"), message);
        let trained = (start.kind == Kind::Train).then(|| start.typed_params::<TrainParams>().ok()).flatten();
        if params.full {
            problems.push(
                conflict("`full: true` trains all weights and takes no `adapter`".to_owned())
                    .also(param_place(draft, "full"), "said here")
                    .hint("leave the slot `adapter` out, or merge the adapter into the model first"),
            );
        } else if trained.as_ref().is_some_and(|trained| trained.sparsity.is_some()) {
            problems.push(
                conflict(format!("`{}` trains with `sparsity`: its adapter has masks", start.id))
                    .label("training cannot start from it")
                    .hint("train with `sparsity` from the start, or start from a dense adapter"),
            );
        } else if let Some(trained) = trained.filter(|trained| shape(&trained.lora) != shape(&params.lora)) {
            problems.push(
                conflict(format!(
                    "`lora` of `{}` is not that of `{}`, whose adapter it goes on with",
                    instance.id, start.id
                ))
                .also(param_place(draft, "lora"), "another shape than that adapter has")
                .hint(format!("say `lora: {{ {} }}`", spelled(&trained.lora))),
            );
        }
    }
    let rows = input("tokens", &["holdout"]).filter(|tokens| tokens.kind == Kind::Tokenize);
    if let Some(tokens) = rows.filter(|tokens| params.early_stopping.is_some() && tokens.params["holdout"] == 0) {
        problems.push(
            Problem::new(
                Code::Conflict,
                param_place(draft, "early_stopping"),
                format!("`early_stopping` goes by held-out rows, and `{}` holds none out", tokens.id),
            )
            .also(stage_place(&tokens.stage, &[Kind::Tokenize.name()]).key_part(), "without `holdout`")
            .hint("say `holdout` there, or leave `early_stopping` out"),
        );
    }
}

/// What of `lora` an adapter that is there has settled.
fn shape(lora: &Lora) -> (u64, f64, bool, Vec<&str>) {
    let mut targets: Vec<&str> = lora.targets.iter().map(String::as_str).collect();
    targets.sort_unstable();
    (lora.rank, lora.effective_alpha(), lora.rslora, targets)
}

fn spelled(lora: &Lora) -> String {
    let Lora { rank, rslora, targets, .. } = lora;
    format!("rank: {rank}, alpha: {}, rslora: {rslora}, targets: [{}]", lora.effective_alpha(), targets.join(", "))
}

/// A judge has all that it needs before it is asked, which may cost money.
fn check_judge(draft: &Draft, instance: &Instance, doubts: &Doubts, problems: &mut Vec<Problem>) {
    let is_known = |name: &&str| [LOCAL, CUSTOM].contains(name) || NAMED.contains(name);
    let Some(annotator) = instance.params["annotator"].as_str().filter(is_known) else { return };
    let has = |slot: &str| instance.inputs.contains_key(slot);
    let mut need = |slot: &str, key: &str, message: String| {
        if !has(slot) {
            problems.push(missing_slot(draft, key, slot, message));
        }
    };
    if annotator == LOCAL {
        need("model", "annotator", "a local annotator needs the model that judges".to_owned());
    } else {
        need("annotators", "annotator", format!("`{annotator}` needs the files that hold its prompt"));
    }
    if !has("annotations") {
        need("reference", "annotator", format!("`{annotator}` needs the answers to compare with"));
    }
    if !instance.params["calibrate"].is_null() {
        need("calibrate", "calibrate", "calibration needs published annotations".to_owned());
    } else if has("calibrate") && !doubts.touch("calibrate") {
        problems.push(
            Problem::new(
                Code::MissingKey,
                slot_place(draft, "calibrate").key_part(),
                "the input `calibrate` is there, and no parameter `calibrate` says how many to judge",
            )
            .hint("say `calibrate: 100`, or leave the input out"),
        );
    }
    if has("annotations") {
        problems.push(
            Problem::new(
                Code::Conflict,
                slot_place(draft, "annotations").key_part(),
                "with `annotations` nobody is asked, so `annotator` has no meaning",
            )
            .also(param_place(draft, "annotator"), "said here")
            .hint("leave out one of the two"),
        );
    }
}

/// Axes that a report names are axes of what it is given, and so are the values of its baseline and its arms.
fn check_report(draft: &Draft, instance: &Instance, instances: &[Instance], problems: &mut Vec<Problem>) {
    let given: Vec<&Instance> = instance.inputs.values().flatten().map(|input| &instances[input.instance]).collect();
    let axes: IndexSet<&str> = given.iter().flat_map(|instance| instance.axes.keys()).map(String::as_str).collect();
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
        if axes.contains(axis.as_str()) {
            problems.extend(unknown_value(&given, axis, value, place));
        } else {
            problems.push(unknown(place.key_part(), axis));
        }
    }
    if let Some(rows) = instance.params["rows"].as_str().filter(|rows| axes.contains(rows)) {
        check_arms(draft, instance, &given, rows, problems);
    }
}

fn unknown_value(given: &[&Instance], axis: &str, value: &Value, place: Place) -> Option<Problem> {
    let texts: HashSet<String> =
        given.iter().filter_map(|given| given.axes.get(axis)).filter_map(scalar_text).collect();
    let text = scalar_text(value).unwrap_or_default();
    (!texts.contains(&text)).then(|| {
        let mut names: Vec<&str> = texts.iter().map(String::as_str).collect();
        names.sort_unstable();
        let message = format!("the axis `{axis}` has no value `{text}`");
        Problem::new(Code::UnknownAxisValue, place, message).suggest(&text, names)
    })
}

/// Arms that `families` and `interactions` name are there. What lacks the axis of the arms is an arm under its label.
fn check_arms(draft: &Draft, instance: &Instance, given: &[&Instance], rows: &str, problems: &mut Vec<Problem>) {
    let without: HashSet<&str> = given
        .iter()
        .filter(|given| !given.axes.contains_key(rows))
        .map(|given| given.label.as_deref().unwrap_or(&given.stage))
        .collect();
    let mut check = |value: &Value, keys: &[&str]| {
        if !value.as_str().is_some_and(|name| without.contains(name)) {
            let text = scalar_text(value).unwrap_or_default();
            let place = stage_place(&draft.name, &[draft.kind.name()]).below(keys).spelling(text);
            problems.extend(unknown_value(given, rows, value, place));
        }
    };
    for (name, values) in instance.params["families"].as_object().into_iter().flatten() {
        values.as_array().into_iter().flatten().for_each(|value| check(value, &["families", name]));
    }
    for (name, arms) in instance.params["interactions"].as_object().into_iter().flatten() {
        check(&arms["both"], &["interactions", name, "both"]);
        arms["alone"].as_array().into_iter().flatten().for_each(|value| check(value, &["interactions", name, "alone"]));
    }
}
