//! From a YAML file to a checked pipeline.
//!
//! The text is parsed twice at most: once fast, without positions, and once more with them, when there is something to
//! report. All problems of a file are collected; [`code`] has the table of their codes.
//!
//! This module knows what a pipeline means. It must not know of stores, keys, workers, or how anything is shown.

mod check;
pub mod code;
mod combine;
pub mod diagnostic;
mod document;
mod doubt;
mod expand;
mod frame;
mod graph;
mod join;
mod layer;
mod matrix;
pub mod model;
mod overrides;
mod params;
pub mod problem;
pub mod reference;
mod resolve;
pub mod schema;
mod scripts;
pub mod selector;
mod settled;
mod shape;
pub mod source;
mod spans;
mod stage;
mod together;
mod units;
mod validate;
mod yaml;

use std::collections::HashMap;
use std::path::Path as FilePath;
use std::sync::Arc;

use neftpipe_protocol::Kind;
use rayon::prelude::*;
use serde_json::{Map, Value};

pub use diagnostic::{Diagnostic, Problems};
pub use model::Pipeline;
pub use overrides::Overrides;
pub use selector::Selector;
pub use units::{parse_bytes, parse_duration};

use check::expect_map;
use document::{Document, absolute};
use doubt::Doubts;
use expand::{Expansion, Proto};
use layer::Layer;
use matrix::Axis;
use model::{Instance, Settled};
use overrides::{StageOverride, StageOverrides};
use params::Params;
use problem::{Code, Path, Problem, Severity};
use resolve::{Outcome, Resolver};
use scripts::Scripts;
use stage::Draft;

/// Reads, checks and expands a pipeline file.
///
/// # Errors
/// Everything that is wrong with it, each at its place.
pub fn load(file: &FilePath, overrides: &Overrides) -> Result<Pipeline, Problems> {
    let mut problems = Vec::new();
    let (mut document, usable) = Document::read(file, &mut problems);
    let instances = if usable { build(&mut document, overrides, &mut problems) } else { Vec::new() };
    let (errors, warnings) = report(&document, problems);
    if !errors.is_empty() {
        let mut diagnostics = errors;
        diagnostics.extend(warnings);
        diagnostics.sort_by_key(order_of);
        return Err(Problems { diagnostics, sources: document.sources });
    }
    let file = absolute(file);
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Pipeline {
        name: document.name.take().unwrap_or(stem),
        description: document.description.take(),
        base: file.parent().map(FilePath::to_path_buf).unwrap_or_default(),
        file,
        instances,
        warnings: Arc::new(Problems { diagnostics: warnings, sources: document.sources }),
    })
}

/// Problems at their places, in the order of the files, each said once: errors and warnings.
fn report(document: &Document, problems: Vec<Problem>) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    let mut diagnostics: Vec<Diagnostic> = problems.into_iter().map(|problem| document.diagnose(problem)).collect();
    diagnostics.sort_by_key(order_of);
    diagnostics.dedup_by(|a, b| order_of(a) == order_of(b));
    diagnostics.into_iter().partition(|diagnostic| diagnostic.severity == Severity::Error)
}

fn order_of(diagnostic: &Diagnostic) -> (usize, usize, usize, Code, String) {
    let range = &diagnostic.span.range;
    (diagnostic.span.source, range.start, range.end, diagnostic.code, diagnostic.message.clone())
}

fn build(document: &mut Document, overrides: &Overrides, problems: &mut Vec<Problem>) -> Vec<Instance> {
    let stage_overrides = apply_overrides(document, overrides, problems);
    let defaults = parse_defaults(&document.defaults, problems);
    let mut stages = std::mem::take(&mut document.stages);
    let mut drafts = parse_stages(document, &mut stages, problems);
    drafts
        .iter_mut()
        .for_each(|draft| draft.wrong_params |= defaults.get(&draft.kind).is_some_and(|(_, wrong)| *wrong));
    check_overrides(&mut drafts, &stage_overrides, problems);

    let stage_of: HashMap<&str, usize> =
        drafts.iter().enumerate().map(|(index, draft)| (draft.name.as_str(), index)).collect();
    let graph = link(&drafts, &stage_of, &stages, problems);
    drop(stages); // understood: its memory is used again
    let order = graph::order(&graph);
    if order.len() < drafts.len() {
        report_cycles(&drafts, &graph, problems);
    }
    let mut expansion = expand::expand(&drafts, &order, &stage_of, document.axes_are_patched(), problems);

    let defaults = defaults.into_iter().map(|(kind, (layer, _))| (kind, layer)).collect();
    let resolver = Resolver::new(&defaults, &stage_overrides);
    let resolved = resolve_all(&drafts, &mut expansion, &resolver);
    assemble(&drafts, &expansion.protos, resolved, problems)
}

/// Every stage that has a kind to go on with, understood on all cores.
fn parse_stages(document: &Document, stages: &mut Map<String, Value>, problems: &mut Vec<Problem>) -> Vec<Draft> {
    let mut parsed = Vec::new();
    let mut values: Vec<(&String, &mut Value)> = stages.iter_mut().collect();
    let parse = |(name, value): &mut (&String, &mut Value)| {
        let mut problems = Vec::new();
        let draft = Draft::parse(name, value, document.folder_of_stage(name), &mut problems);
        (draft, problems)
    };
    values.par_iter_mut().with_min_len(64).map(parse).collect_into_vec(&mut parsed);
    let mut drafts = Vec::with_capacity(parsed.len());
    for (draft, found) in parsed {
        problems.extend(found);
        drafts.extend(draft);
    }
    drafts
}

/// Puts profile, `--set` and `${params.x}` in their places. What is said of stages' parameters is handed back.
fn apply_overrides(document: &mut Document, overrides: &Overrides, problems: &mut Vec<Problem>) -> StageOverrides {
    let mut sets = overrides::collect(document, overrides, problems);
    sets.iter_mut().for_each(|set| set.apply_params(document, problems));

    let mut params = Params::new(std::mem::take(&mut document.params), problems);
    let top = Path::DOCUMENT;
    fill_section(&mut document.defaults, &top.key("defaults"), &mut params, problems);
    fill_section(&mut document.stages, &top.key("stages"), &mut params, problems);
    sets.iter_mut().for_each(|set| set.fill(&mut params, problems));
    params.report_unused(problems);

    let mut layers = StageOverrides::new();
    sets.into_iter().for_each(|set| set.apply(document, &mut layers, problems));
    layers
}

fn fill_section(section: &mut Map<String, Value>, path: &Path<'_>, params: &mut Params, problems: &mut Vec<Problem>) {
    for (name, value) in section.iter_mut() {
        params.fill(value, &path.key(name), problems);
    }
}

/// `defaults` by kind, and whether something is wrong with them.
fn parse_defaults(defaults: &Map<String, Value>, problems: &mut Vec<Problem>) -> HashMap<Kind, (Layer, bool)> {
    let here = Path::DOCUMENT.key("defaults");
    let mut layers = HashMap::new();
    for (name, value) in defaults {
        let path = here.key(name);
        let Ok(kind) = name.parse::<Kind>() else { continue };
        let Some(map) = expect_map(value, &path, &format!("the defaults of `{name}`"), problems) else { continue };
        let layer = Layer { value: Value::Object(map.clone()), origin: path.at_value(), single: false };
        let before = problems.len();
        layer.check(kind, problems);
        layers.insert(kind, (layer, problems.len() > before));
    }
    layers
}

/// Checks what profiles and `--set` say of parameters, and that no axis sets the same.
fn check_overrides(drafts: &mut [Draft], overrides: &StageOverrides, problems: &mut Vec<Problem>) {
    if overrides.is_empty() {
        return;
    }
    for draft in drafts {
        for set in overrides.get(&draft.name).into_iter().flatten() {
            let before = problems.len();
            set.layer.check(draft.kind, problems);
            draft.wrong_params |= set.active && problems.len() > before;
            for path in set.layer.paths(draft.kind) {
                problems.extend(draft.axes.iter().filter_map(|axis| axis_override(draft, set, axis, &path)));
            }
        }
    }
}

/// The problem of overriding a path that an axis sets, if it does.
fn axis_override(draft: &Draft, set: &StageOverride, axis: &Axis, path: &str) -> Option<Problem> {
    let setter = axis.setter(draft.kind, path)?;
    let keys: Vec<&str> = path.split('.').collect();
    let message = format!("the axis `{}` of `{}` sets `{path}`", axis.name, draft.name);
    Some(
        Problem::new(Code::AxisOverride, set.layer.key_place(&keys), message)
            .label(format!("{} cannot set it for all", set.said_by))
            .also(setter, "the axis sets it here")
            .hint(axis_hint(&draft.name, axis, path)),
    )
}

/// How to change what an axis sets.
fn axis_hint(stage: &str, axis: &Axis, path: &str) -> String {
    let label = if axis.labelled { format!(".LABEL.{path}=…") } else { "=[…]".to_owned() };
    format!(
        "it differs from instance to instance: `--set 'stages.{stage}.matrix.{}{label}'` changes the axis",
        axis.name
    )
}

/// The graph of stages, by their needs. Unknown names are said.
fn link(
    drafts: &[Draft],
    stage_of: &HashMap<&str, usize>,
    stages: &Map<String, Value>,
    problems: &mut Vec<Problem>,
) -> graph::StageGraph {
    let mut edges = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        for (at, need) in draft.needs.iter().enumerate() {
            let name = need.reference.stage.as_str();
            match stage_of.get(name) {
                Some(&needed) => edges.push((needed, index, at)),
                // A stage that is there but has no kind is reported itself.
                None if stages.contains_key(name) => {}
                None => problems.push(
                    Problem::new(
                        Code::UnknownStage,
                        need.within(&draft.name, 0..name.len()),
                        format!("there is no stage `{name}`"),
                    )
                    .suggest(name, stages.keys().map(String::as_str).filter(|other| *other != draft.name)),
                ),
            }
        }
    }
    graph::build(drafts.len(), edges)
}

fn report_cycles(drafts: &[Draft], graph: &graph::StageGraph, problems: &mut Vec<Problem>) {
    const SHOWN: usize = 10;
    for cycle in graph::cycles(graph) {
        let name = |&(stage, _): &(usize, usize)| format!("`{}`", drafts[stage].name);
        let mut names: Vec<String> = cycle.iter().take(SHOWN).map(name).collect();
        if cycle.len() > SHOWN {
            names.push("…".to_owned());
        }
        names.extend(cycle.first().map(name));
        let place = |&(stage, need): &(usize, usize)| drafts[stage].needs[need].place(&drafts[stage].name);
        let Some(first) = cycle.first() else { continue };
        let mut problem =
            Problem::new(Code::Cycle, place(first), format!("stages need each other: {}", names.join(" needs ")))
                .label(format!("{} needs it here", name(first)));
        for step in cycle.iter().skip(1).take(SHOWN) {
            problem = problem.also(place(step), format!("{} needs it here", name(step)));
        }
        problems.push(problem);
    }
}

/// Every instance with its parameters but not yet its inputs, on all cores; what of the parameters cannot be gone by, and
/// what is wrong with them.
fn resolve_all(
    drafts: &[Draft],
    expansion: &mut Expansion,
    resolver: &Resolver<'_>,
) -> (Vec<Instance>, Vec<(Doubts, Vec<Problem>)>) {
    let Expansion { protos, tables } = expansion;
    let resolve = |proto: &mut Proto| {
        let draft = &drafts[proto.stage];
        let axes = tables[proto.stage].as_ref().map_or(&[][..], |table| table.axes.as_slice());
        let Outcome { resolved, doubts, problems } = resolver.resolve(draft, axes, proto);
        let mut instance = bare_instance(draft, axes, std::mem::take(&mut proto.values));
        if let Some(resolved) = resolved {
            instance.outputs = resolve::outputs(instance.kind, &resolved.full);
            instance.params = Settled::new(instance.kind, resolved);
        }
        (instance, (doubts, problems))
    };
    let mut made = (Vec::new(), Vec::new());
    protos.par_iter_mut().with_min_len(64).map(resolve).unzip_into_vecs(&mut made.0, &mut made.1);
    made
}

/// Gives instances their inputs, and says what does not go together. Nothing is said of what goes with a value that is wrong
/// by itself.
fn assemble(
    drafts: &[Draft],
    protos: &[Proto],
    (mut instances, wrong): (Vec<Instance>, Vec<(Doubts, Vec<Problem>)>),
    problems: &mut Vec<Problem>,
) -> Vec<Instance> {
    let mut scripts = Scripts::default();
    let (doubts, wrong): (Vec<Doubts>, Vec<Vec<Problem>>) = wrong.into_iter().unzip();
    for (index, (proto, wrong)) in protos.iter().zip(wrong).enumerate() {
        problems.extend(wrong);
        let draft = &drafts[proto.stage];
        let inputs = validate::connect(draft, &proto.inputs, &instances, &doubts, problems);
        instances[index].inputs = inputs;
        if doubts[index] == Doubts::All {
            continue;
        }
        validate::check_instance(draft, index, &instances, &doubts, problems);
        if draft.kind == Kind::Command && !["run", "files"].iter().any(|key| doubts[index].touch(key)) {
            scripts.check(draft, &instances[index], problems);
        }
    }
    instances
}

fn bare_instance(draft: &Draft, axes: &[String], values: Vec<Value>) -> Instance {
    Instance {
        id: reference::instance_id(&draft.name, axes.iter().map(String::as_str).zip(&values)),
        stage: draft.name.clone(),
        label: draft.label.clone(),
        kind: draft.kind,
        axes: axes.iter().cloned().zip(values).collect(),
        inputs: Default::default(),
        missing: Vec::new(),
        params: Settled::defaults(draft.kind),
        outputs: Default::default(),
        base: draft.folder.clone(),
        resources: draft.resources.clone(),
        timeout: draft.timeout,
        retry: draft.retry.clone(),
    }
}
