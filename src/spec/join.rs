//! What references mean, and the join of a stage's inputs on the axes that they share.

use std::collections::HashMap;

use serde_json::Value;

use super::expand::{MOST_INSTANCES, Proto, Table, too_many};
use super::matrix::unknown_axis;
use super::problem::{Code, Place, Problem, listed};
use super::reference::AxisSelect;
use super::stage::{Draft, Need};
use super::yaml::scalar_text;

/// What a reference means: for each combination of the axes that are left, the instances.
pub struct Groups {
    /// The axes that are left.
    pub axes: Vec<String>,
    /// Their values, and the instances.
    pub rows: Vec<(Vec<Value>, Vec<usize>)>,
}

/// A combination of inherited axes, with the group of each need.
pub struct Joined {
    /// Values of the joined axes.
    pub values: Vec<Value>,
    /// By need, the row of its groups.
    pub groups: Vec<usize>,
}

/// The instances that a reference means, grouped by the axes that flow on.
pub fn groups_of(
    draft: &Draft,
    need: &Need,
    table: &Table,
    protos: &[Proto],
    problems: &mut Vec<Problem>,
) -> Option<Groups> {
    let reference = &need.reference;
    if table.axes.is_empty() && reference.axes.is_empty() {
        let row = (Vec::new(), table.instances.clone().collect());
        return Some(Groups { axes: Vec::new(), rows: vec![row] });
    }
    let before = problems.len();
    for select in &reference.axes {
        check_select(draft, need, select, table, protos, problems);
    }
    if problems.len() > before {
        return None;
    }
    let stays = |axis: &String| !reference.all && !reference.axes.iter().any(|select| select.axis == *axis);
    let kept: Vec<usize> = (0..table.axes.len()).filter(|&at| stays(&table.axes[at])).collect();
    let mut rows: Vec<(Vec<Value>, Vec<usize>)> = Vec::new();
    let mut row_of: HashMap<String, usize> = HashMap::new();
    for instance in table.instances.clone() {
        let values = &protos[instance].values;
        if !reference.matches(|axis| table.axes.iter().position(|own| own == axis).map(|at| &values[at])) {
            continue;
        }
        let row = *row_of.entry(join_key(kept.iter().map(|&at| &values[at]))).or_insert_with(|| {
            rows.push((kept.iter().map(|&at| values[at].clone()).collect(), Vec::new()));
            rows.len() - 1
        });
        rows[row].1.push(instance);
    }
    if rows.is_empty() {
        problems.push(Problem::new(
            Code::EmptyJoin,
            need.place(&draft.name),
            format!("no instance of `{}` has this combination", reference.stage),
        ));
        return None;
    }
    Some(Groups { axes: kept.iter().map(|&at| table.axes[at].clone()).collect(), rows })
}

fn check_select(
    draft: &Draft,
    need: &Need,
    select: &AxisSelect,
    table: &Table,
    protos: &[Proto],
    problems: &mut Vec<Problem>,
) {
    let stage = &need.reference.stage;
    let Some(at) = table.axes.iter().position(|axis| *axis == select.axis) else {
        problems.push(unknown_axis(need.within(&draft.name, select.range.clone()), stage, &select.axis, &table.axes));
        return;
    };
    let values: Vec<&Value> = table.instances.clone().map(|instance| &protos[instance].values[at]).collect();
    for (text, range) in select.values.iter().flatten() {
        if !values.iter().any(|value| super::reference::value_matches(text, value)) {
            let place = need.within(&draft.name, range.clone());
            problems.push(unknown_value(place, &select.axis, text, values.iter().copied()));
        }
    }
}

/// Says that a value is none of an axis.
pub fn unknown_value<'v>(place: Place, axis: &str, text: &str, values: impl Iterator<Item = &'v Value>) -> Problem {
    let names: indexmap::IndexSet<String> = values.filter_map(scalar_text).collect();
    Problem::new(Code::UnknownAxisValue, place, format!("the axis `{axis}` has no value `{text}`"))
        .suggest(text, names.iter().map(String::as_str))
}

/// Values as one text, to find equal ones by.
pub fn join_key<'v>(values: impl Iterator<Item = &'v Value>) -> String {
    let mut key = String::new();
    for value in values {
        key.push_str(&scalar_text(value).unwrap_or_default());
        key.push('\u{1f}');
    }
    key
}

/// Joins the needs on the axes that they share; axes that only some have are multiplied.
pub fn join(draft: &Draft, groups: &[Groups], problems: &mut Vec<Problem>) -> Option<(Vec<String>, Vec<Joined>)> {
    let mut axes: Vec<String> = Vec::new();
    let mut joined = vec![Joined { values: Vec::new(), groups: Vec::with_capacity(groups.len()) }];
    for (index, group) in groups.iter().enumerate() {
        if group.axes.is_empty() {
            joined.iter_mut().for_each(|row| row.groups.push(0));
            continue;
        }
        let shared: Vec<(usize, usize)> = group
            .axes
            .iter()
            .enumerate()
            .filter_map(|(own, axis)| Some((axes.iter().position(|known| known == axis)?, own)))
            .collect();
        let fresh: Vec<usize> =
            (0..group.axes.len()).filter(|own| !shared.iter().any(|(_, shared)| shared == own)).collect();
        let mut by_key: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, (values, _)) in group.rows.iter().enumerate() {
            by_key.entry(join_key(shared.iter().map(|(_, own)| &values[*own]))).or_default().push(at);
        }
        let mut next = Vec::new();
        for row in &joined {
            let key = join_key(shared.iter().map(|(known, _)| &row.values[*known]));
            for &at in by_key.get(&key).map_or(&[][..], Vec::as_slice) {
                let added = fresh.iter().map(|&own| group.rows[at].0[own].clone());
                let values = row.values.iter().cloned().chain(added).collect();
                next.push(Joined { values, groups: row.groups.iter().copied().chain([at]).collect() });
            }
            if next.len() > MOST_INSTANCES {
                problems.push(too_many(draft));
                return None;
            }
        }
        if next.is_empty() {
            let on: Vec<&str> = shared.iter().map(|(known, _)| axes[*known].as_str()).collect();
            problems.push(empty_join(draft, index, groups, &on));
            return None;
        }
        joined = next;
        axes.extend(fresh.iter().map(|&own| group.axes[own].clone()));
    }
    Some((axes, joined))
}

fn empty_join(draft: &Draft, index: usize, groups: &[Groups], on: &[&str]) -> Problem {
    let need = &draft.needs[index];
    let mut problem = Problem::new(
        Code::EmptyJoin,
        need.place(&draft.name),
        format!("the inputs of `{}` share no combination of {}", draft.name, listed(on)),
    )
    .label("none of this agrees with the inputs before it");
    for (other, group) in draft.needs[..index].iter().zip(groups) {
        if group.axes.iter().any(|axis| on.contains(&axis.as_str())) {
            problem = problem.also(other.place(&draft.name), "has to agree with this");
        }
    }
    problem.hint("fix an axis (`NAME[axis=value]`) or gather it (`NAME[axis=*]`) so that it is not joined on")
}
