//! From stages to instances: axes flow along needs, are joined, and are multiplied by those that a stage declares.

use std::collections::HashMap;

use serde_json::Value;

use super::combine::Known;
use super::join::{Groups, groups_of, join};
use super::layer::Layer;
use super::problem::{Code, Path, Problem};
use super::stage::Draft;

/// Most instances of a pipeline.
pub const MOST_INSTANCES: usize = 250_000;

/// An instance before its parameters are known.
#[derive(Debug)]
pub struct Proto {
    /// Index of its stage.
    pub stage: usize,
    /// Values of the stage's axes.
    pub values: Vec<Value>,
    /// The values of declared axes, with their parameters.
    pub picks: Vec<Pick>,
    /// Instances by need.
    pub inputs: Vec<Vec<usize>>,
}

/// A value of a declared axis.
#[derive(Debug, Clone)]
pub enum Pick {
    /// Of the axis at the first index, the value at the second.
    Listed(usize, usize),
    /// One that only `include` names.
    Further(Box<Layer>),
}

/// The instances of a stage.
#[derive(Debug)]
pub struct Table {
    /// Its axes: inherited, then declared.
    pub axes: Vec<String>,
    /// Indices of its instances.
    pub instances: std::ops::Range<usize>,
}

/// All instances, and those of each stage whose instances can be told.
#[derive(Debug, Default)]
pub struct Expansion {
    /// Instances, inputs first.
    pub protos: Vec<Proto>,
    /// By stage.
    pub tables: Vec<Option<Table>>,
}

/// Makes the instances of all stages, in this order. `is_narrowed` says that an override may have taken values from axes.
pub fn expand(
    drafts: &[Draft],
    order: &[usize],
    stage_of: &HashMap<&str, usize>,
    is_narrowed: bool,
    problems: &mut Vec<Problem>,
) -> Expansion {
    let mut expansion = Expansion { protos: Vec::new(), tables: drafts.iter().map(|_| None).collect() };
    for &stage in order {
        let draft = &drafts[stage];
        if draft.broken {
            continue;
        }
        let first = expansion.protos.len();
        let Some((axes, protos)) = expand_stage(stage, draft, stage_of, is_narrowed, &expansion, problems) else {
            continue;
        };
        if first + protos.len() > MOST_INSTANCES {
            problems.push(too_many(draft));
            return expansion;
        }
        expansion.protos.extend(protos);
        expansion.tables[stage] = Some(Table { axes, instances: first..expansion.protos.len() });
    }
    expansion
}

/// Says that a stage has more instances than anybody can have meant.
pub fn too_many(draft: &Draft) -> Problem {
    let stages = Path::DOCUMENT.key("stages");
    let message = format!("with `{}` there are more than {MOST_INSTANCES} instances", draft.name);
    Problem::new(Code::TooManyInstances, stages.key(&draft.name).at_key(), message)
        .hint("axes that inputs do not share are multiplied: fix or gather those that should not be")
}

fn expand_stage(
    stage: usize,
    draft: &Draft,
    stage_of: &HashMap<&str, usize>,
    is_narrowed: bool,
    expansion: &Expansion,
    problems: &mut Vec<Problem>,
) -> Option<(Vec<String>, Vec<Proto>)> {
    let mut groups = Vec::with_capacity(draft.needs.len());
    let mut complete = true;
    for need in &draft.needs {
        let found = stage_of.get(need.reference.stage.as_str()).and_then(|&needed| expansion.tables[needed].as_ref());
        match found.map(|table| groups_of(draft, need, table, &expansion.protos, problems)) {
            Some(Some(found)) => groups.push(found),
            _ => complete = false,
        }
    }
    if !complete {
        return None;
    }
    let (inherited, joined) = join(draft, &groups, problems)?;
    let axes = all_axes(draft, &inherited, &groups, problems)?;
    let known = Known { draft, axes: &axes, inherited: inherited.len(), joined: &joined, is_narrowed };
    known.check_combinations(problems)?;
    known.check_refine(problems)?;
    let rows = known.rows(problems)?;
    let protos = rows
        .into_iter()
        .map(|row| Proto {
            stage,
            inputs: groups
                .iter()
                .zip(&joined[row.joined].groups)
                .map(|(groups, &at)| groups.rows[at].1.clone())
                .collect(),
            values: row.values,
            picks: row.picks,
        })
        .collect();
    Some((axes, protos))
}

/// Inherited axes and declared ones; a name cannot be both.
fn all_axes(
    draft: &Draft,
    inherited: &[String],
    groups: &[Groups],
    problems: &mut Vec<Problem>,
) -> Option<Vec<String>> {
    let mut axes = inherited.to_vec();
    for axis in &draft.axes {
        if inherited.contains(&axis.name) {
            let from = draft.needs.iter().zip(groups).find(|(_, group)| group.axes.contains(&axis.name));
            let mut problem = Problem::new(
                Code::AxisRedeclared,
                axis.place.clone(),
                format!("`{}` inherits the axis `{}` already", draft.name, axis.name),
            )
            .label("declared again here")
            .hint("to set parameters for its labels use `refine`; else name this axis differently");
            if let Some((need, _)) = from {
                problem = problem.also(need.place(&draft.name), "it flows in here");
            }
            problems.push(problem);
            return None;
        }
        axes.push(axis.name.clone());
    }
    Some(axes)
}
