//! From stages to instances: axes flow along needs, are joined, and are multiplied by those that a stage declares.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::layer::{Layer, overlap};
use super::matrix::{Axis, Combination, unknown_axis};
use super::problem::{Code, Path, Place, Problem, listed};
use super::reference::AxisSelect;
use super::stage::{Draft, Need};
use super::yaml::scalar_text;

/// Most instances of a pipeline.
const MOST_INSTANCES: usize = 250_000;

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

/// What a reference means: for each combination of the axes that are left, the instances.
struct Groups {
    axes: Vec<String>,
    rows: Vec<(Vec<Value>, Vec<usize>)>,
}

/// A combination of inherited axes, with the group of each need.
struct Joined {
    values: Vec<Value>,
    groups: Vec<usize>,
}

/// Makes the instances of all stages, in this order.
pub fn expand(
    drafts: &[Draft],
    order: &[usize],
    stage_of: &HashMap<&str, usize>,
    problems: &mut Vec<Problem>,
) -> Expansion {
    let mut expansion = Expansion { protos: Vec::new(), tables: drafts.iter().map(|_| None).collect() };
    for &stage in order {
        let draft = &drafts[stage];
        if draft.broken {
            continue;
        }
        let first = expansion.protos.len();
        let Some((axes, protos)) = expand_stage(stage, draft, stage_of, &expansion, problems) else { continue };
        if first + protos.len() > MOST_INSTANCES {
            problems.push(too_many(draft));
            return expansion;
        }
        expansion.protos.extend(protos);
        expansion.tables[stage] = Some(Table { axes, instances: first..expansion.protos.len() });
    }
    expansion
}

fn too_many(draft: &Draft) -> Problem {
    let stages = Path::DOCUMENT.key("stages");
    let message = format!("with `{}` there are more than {MOST_INSTANCES} instances", draft.name);
    Problem::new(Code::TooManyInstances, stages.key(&draft.name).at_key(), message)
        .hint("axes that inputs do not share are multiplied: fix or gather those that should not be")
}

fn expand_stage(
    stage: usize,
    draft: &Draft,
    stage_of: &HashMap<&str, usize>,
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
    let known = Known { draft, axes: &axes, inherited: inherited.len(), joined: &joined };
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

/// The instances that a reference means, grouped by the axes that flow on.
fn groups_of(
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

fn unknown_value<'v>(place: Place, axis: &str, text: &str, values: impl Iterator<Item = &'v Value>) -> Problem {
    let names: indexmap::IndexSet<String> = values.filter_map(scalar_text).collect();
    Problem::new(Code::UnknownAxisValue, place, format!("the axis `{axis}` has no value `{text}`"))
        .suggest(text, names.iter().map(String::as_str))
}

fn join_key<'v>(values: impl Iterator<Item = &'v Value>) -> String {
    let mut key = String::new();
    for value in values {
        key.push_str(&scalar_text(value).unwrap_or_default());
        key.push('\u{1f}');
    }
    key
}

/// Joins the needs on the axes that they share; axes that only some have are multiplied.
fn join(draft: &Draft, groups: &[Groups], problems: &mut Vec<Problem>) -> Option<(Vec<String>, Vec<Joined>)> {
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
    );
    for (other, group) in draft.needs[..index].iter().zip(groups) {
        if group.axes.iter().any(|axis| on.contains(&axis.as_str())) {
            problem = problem.also(other.place(&draft.name), "has to agree with this");
        }
    }
    problem.hint("fix an axis (`NAME[axis=value]`) or gather it (`NAME[axis=*]`) so that it is not joined on")
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

/// A stage whose axes are known.
struct Known<'d> {
    draft: &'d Draft,
    axes: &'d [String],
    inherited: usize,
    joined: &'d [Joined],
}

/// One combination of all axes.
struct Row {
    joined: usize,
    values: Vec<Value>,
    picks: Vec<Pick>,
}

impl Known<'_> {
    fn declared(&self, name: &str) -> Option<(usize, &Axis)> {
        self.draft.axes.iter().enumerate().find(|(_, axis)| axis.name == name)
    }

    /// Values of an axis, inherited or declared.
    fn values(&self, axis: &str) -> Option<Vec<&Value>> {
        if let Some((_, axis)) = self.declared(axis) {
            return Some(axis.values.iter().map(|value| &value.value).collect());
        }
        let at = self.axes.iter().position(|known| known == axis)?;
        Some(self.joined.iter().map(|row| &row.values[at]).collect())
    }

    fn check_combinations(&self, problems: &mut Vec<Problem>) -> Option<()> {
        let before = problems.len();
        for combination in self.draft.exclude.iter().chain(&self.draft.include) {
            for (axis, values) in &combination.entries {
                let place = || combination.place(&self.draft.name, Some(axis));
                let Some(known) = self.values(axis) else {
                    problems.push(unknown_axis(place(), &self.draft.name, axis, self.axes));
                    continue;
                };
                let open = combination.adds() && self.declared(axis).is_some_and(|(_, axis)| !axis.labelled);
                let texts: HashSet<String> = known.iter().copied().filter_map(scalar_text).collect();
                for text in values.iter().filter_map(scalar_text) {
                    if !open && !texts.contains(&text) {
                        problems.push(unknown_value(place(), axis, &text, known.iter().copied()));
                    }
                }
            }
        }
        (problems.len() == before).then_some(())
    }

    fn check_refine(&self, problems: &mut Vec<Problem>) -> Option<()> {
        let before = problems.len();
        let inherited = &self.axes[..self.inherited];
        for refinement in &self.draft.refine {
            let place = refinement.layer.origin.key_part();
            if self.declared(&refinement.axis).is_some() {
                let message = format!("`{}` declares the axis `{}` itself", self.draft.name, refinement.axis);
                problems.push(
                    Problem::new(Code::UnknownAxis, place, message)
                        .hint("`refine` is for inherited axes: put the parameters into the label in `matrix`"),
                );
            } else if !inherited.contains(&refinement.axis) {
                problems.push(unknown_axis(place, &self.draft.name, &refinement.axis, inherited));
            } else if let Some(values) = self.values(&refinement.axis) {
                let known = values.iter().any(|value| scalar_text(value).as_ref() == Some(&refinement.label));
                if !known {
                    problems.push(unknown_value(place, &refinement.axis, &refinement.label, values.into_iter()));
                }
            }
        }
        self.check_refine_conflicts(problems);
        (problems.len() == before).then_some(())
    }

    fn check_refine_conflicts(&self, problems: &mut Vec<Problem>) {
        let kind = self.draft.kind;
        for (index, later) in self.draft.refine.iter().enumerate() {
            for earlier in self.draft.refine[..index].iter().filter(|earlier| earlier.axis != later.axis) {
                let paths = earlier.layer.paths(kind);
                for path in later.layer.paths(kind) {
                    if paths.iter().any(|other| overlap(other, &path)) {
                        let keys: Vec<&str> = path.split('.').collect();
                        let message = format!("`{}` and `{}` both refine `{path}`", earlier.axis, later.axis);
                        problems.push(
                            Problem::new(Code::AxisConflict, later.layer.place(&keys), message)
                                .also(earlier.layer.place(&keys), "and here"),
                        );
                    }
                }
            }
        }
    }

    /// All combinations that are left, those of `include` last.
    fn rows(&self, problems: &mut Vec<Problem>) -> Option<Vec<Row>> {
        let sizes = self.draft.axes.iter().map(|axis| axis.values.len());
        let total = sizes.fold(Some(self.joined.len()), |total, size| total?.checked_mul(size));
        if total.is_none_or(|total| total > MOST_INSTANCES) {
            problems.push(too_many(self.draft));
            return None;
        }
        let mut rows = Vec::with_capacity(total.unwrap_or(0));
        for joined in 0..self.joined.len() {
            self.multiply(joined, &mut rows);
        }
        if !self.draft.exclude.is_empty() {
            rows.retain(|row| !self.draft.exclude.iter().any(|rule| self.covers(rule, &row.values)));
        }
        for combination in &self.draft.include {
            self.include(combination, &mut rows, problems);
        }
        if rows.is_empty() {
            let place = self.draft.exclude.first().map(|rule| rule.place(&self.draft.name, None));
            let place = place.unwrap_or_else(|| super::stage::stage_place(&self.draft.name, &[]).key_part());
            let message = format!("`exclude` leaves nothing of `{}`", self.draft.name);
            problems.push(Problem::new(Code::BadCombination, place, message));
            return None;
        }
        Some(rows)
    }

    /// Every combination of the declared axes, the last one moving fastest.
    fn multiply(&self, joined: usize, rows: &mut Vec<Row>) {
        let axes = &self.draft.axes;
        let mut at = vec![0; axes.len()];
        loop {
            let own = axes.iter().zip(&at).map(|(axis, &value)| axis.values[value].value.clone());
            let values = self.joined[joined].values.iter().cloned().chain(own).collect();
            let picks = at.iter().enumerate().map(|(axis, &value)| Pick::Listed(axis, value)).collect();
            rows.push(Row { joined, values, picks });
            let Some(next) = (0..axes.len()).rev().find(|&axis| at[axis] + 1 < axes[axis].values.len()) else { return };
            at[next] += 1;
            at[next + 1..].fill(0);
        }
    }

    fn covers(&self, combination: &Combination, values: &[Value]) -> bool {
        combination.entries.iter().all(|(axis, allowed)| {
            let own = self.axes.iter().position(|known| known == axis).map(|at| &values[at]);
            own.is_some_and(|own| allowed.iter().any(|value| scalar_text(value) == scalar_text(own)))
        })
    }

    fn include(&self, combination: &Combination, rows: &mut Vec<Row>, problems: &mut Vec<Problem>) {
        let place = combination.place(&self.draft.name, None);
        let mut own = Vec::with_capacity(self.draft.axes.len());
        let mut absent = Vec::new();
        for (index, axis) in self.draft.axes.iter().enumerate() {
            let Some([value]) = combination.values(&axis.name) else {
                absent.push(axis.name.as_str());
                continue;
            };
            let listed = axis.values.iter().position(|known| scalar_text(&known.value) == scalar_text(value));
            match listed {
                Some(at) => own.push((axis.values[at].value.clone(), Pick::Listed(index, at))),
                None => {
                    let place = combination.place(&self.draft.name, Some(&axis.name));
                    let layer = Layer::of_value(&axis.name, value.clone(), &Path::DOCUMENT).at(place);
                    let before = problems.len();
                    layer.check(self.draft.kind, problems);
                    if problems.len() > before {
                        return;
                    }
                    own.push((value.clone(), Pick::Further(Box::new(layer))));
                }
            }
        }
        if !absent.is_empty() {
            let message = format!("a combination to add names every axis that the stage declares: {}", listed(&absent));
            problems.push(Problem::new(Code::BadCombination, place, message).label("missing here"));
            return;
        }
        let inherited: Vec<(usize, &Value)> = combination
            .entries
            .iter()
            .filter_map(|(axis, values)| {
                Some((self.axes[..self.inherited].iter().position(|own| own == axis)?, values.first()?))
            })
            .collect();
        let known: HashSet<String> = rows.iter().map(|row| join_key(row.values.iter())).collect();
        let mut fits = 0;
        for (joined, row) in self.joined.iter().enumerate() {
            if !inherited.iter().all(|(at, value)| scalar_text(&row.values[*at]) == scalar_text(value)) {
                continue;
            }
            fits += 1;
            let values: Vec<Value> =
                row.values.iter().cloned().chain(own.iter().map(|(value, _)| value.clone())).collect();
            if !known.contains(&join_key(values.iter())) {
                rows.push(Row { joined, values, picks: own.iter().map(|(_, pick)| pick.clone()).collect() });
            }
        }
        if fits == 0 {
            let message = format!("the inputs of `{}` have no such combination", self.draft.name);
            problems.push(Problem::new(Code::BadCombination, place, message));
        }
    }
}
