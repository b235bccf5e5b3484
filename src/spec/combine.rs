//! The combinations of a stage's axes: multiplied, thinned by `exclude`, added to by `include`.

use std::collections::HashSet;

use serde_json::Value;

use super::expand::{MOST_INSTANCES, Pick, too_many};
use super::join::{Joined, join_key, unknown_value};
use super::layer::{Layer, overlap};
use super::matrix::{Axis, Combination, unknown_axis, unspellable};
use super::problem::{Code, Path, Problem, listed};
use super::stage::{Draft, stage_place};
use super::yaml::scalar_text;

/// A stage whose axes are known.
pub struct Known<'d> {
    /// The stage.
    pub draft: &'d Draft,
    /// Its axes: inherited, then declared.
    pub axes: &'d [String],
    /// How many are inherited.
    pub inherited: usize,
    /// Combinations of the inherited ones.
    pub joined: &'d [Joined],
    /// Whether an override may have taken values from axes: what `exclude` and `refine` say of those then means nothing, and
    /// nothing is wrong with it.
    pub is_narrowed: bool,
}

/// One combination of all axes.
pub struct Row {
    /// Index of the combination of inherited axes.
    pub joined: usize,
    /// Values of all axes.
    pub values: Vec<Value>,
    /// Values of the declared axes, with their parameters.
    pub picks: Vec<Pick>,
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

    /// Says what is wrong with `exclude` and `include`.
    pub fn check_combinations(&self, problems: &mut Vec<Problem>) -> Option<()> {
        let before = problems.len();
        for combination in self.draft.exclude.iter().chain(&self.draft.include) {
            for (axis, values) in &combination.entries {
                let place = || combination.place(&self.draft.name, Some(axis));
                let Some(known) = self.values(axis) else {
                    problems.push(unknown_axis(place().key_part(), &self.draft.name, axis, self.axes));
                    continue;
                };
                let open = match combination.adds() {
                    true => self.declared(axis).is_some_and(|(_, axis)| !axis.labelled),
                    false => self.is_narrowed,
                };
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

    /// Says what is wrong with `refine`.
    pub fn check_refine(&self, problems: &mut Vec<Problem>) -> Option<()> {
        let before = problems.len();
        let inherited = &self.axes[..self.inherited];
        for refinement in &self.draft.refine {
            let place = refinement.layer.origin.key_part();
            let axis_place = stage_place(&self.draft.name, &["refine"]);
            let axis_place = axis_place.below(&[&refinement.axis]).key_part();
            if self.declared(&refinement.axis).is_some() {
                let message = format!("`{}` declares the axis `{}` itself", self.draft.name, refinement.axis);
                problems.push(
                    Problem::new(Code::UnknownAxis, axis_place, message)
                        .hint("`refine` is for inherited axes: put the parameters into the label in `matrix`"),
                );
            } else if !inherited.contains(&refinement.axis) {
                problems.push(unknown_axis(axis_place, &self.draft.name, &refinement.axis, inherited));
            } else if let Some(values) = self.values(&refinement.axis) {
                let known = values.iter().any(|value| scalar_text(value).as_ref() == Some(&refinement.label));
                if !known && !self.is_narrowed {
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
    pub fn rows(&self, problems: &mut Vec<Problem>) -> Option<Vec<Row>> {
        let mut sizes = self.draft.axes.iter().map(|axis| axis.values.len());
        let total = sizes.try_fold(self.joined.len(), usize::checked_mul);
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
            let place = place.unwrap_or_else(|| stage_place(&self.draft.name, &[]).key_part());
            let message = format!("`exclude` leaves nothing of `{}`", self.draft.name);
            problems.push(
                Problem::new(Code::BadCombination, place, message)
                    .hint("name more axes in it, so that it leaves out less, or remove the stage"),
            );
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
                    let layer = Layer::of_value(&axis.name, value.clone(), &Path::DOCUMENT).at(place.clone());
                    let before = problems.len();
                    let text = scalar_text(value).unwrap_or_default();
                    problems.extend(unspellable(&text, place, "a value of an axis"));
                    layer.check(self.draft.kind, problems);
                    if problems.len() > before {
                        return;
                    }
                    own.push((value.clone(), Pick::Further(Box::new(layer))));
                }
            }
        }
        if !absent.is_empty() {
            let message = format!("`include` adds whole combinations: this one names no {}", listed(&absent));
            let names: Vec<&str> = self.draft.axes.iter().map(|axis| axis.name.as_str()).collect();
            problems.push(
                Problem::new(Code::BadCombination, place, message)
                    .hint(format!("give a value to each of {}", listed(&names))),
            );
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
            problems.push(
                Problem::new(Code::BadCombination, place, message)
                    .hint("an axis that flows in takes the values that it has there"),
            );
        }
    }
}
