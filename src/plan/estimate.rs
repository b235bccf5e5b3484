//! What a plan will take: work in all, the longest chain, and room on the disk.
//!
//! Pure: what each instance took before is given; where nothing is known of one, nothing is claimed of it.

use serde::Serialize;

use super::Plan;
use crate::spec::model::Pipeline;

/// What carrying out one instance will take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// Time.
    pub seconds: f64,
    /// Size of its outputs, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Taken from another instance, or from this one with other parameters.
    pub guessed: bool,
}

/// What a plan will take, at most: what waits may turn out to be there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// Work of all instances that are not there yet.
    pub seconds: f64,
    /// Time of the chain of instances that takes longest, which no number of processors shortens.
    pub critical_path_seconds: f64,
    /// Size of their outputs, as far as it is known.
    pub bytes: u64,
    /// Instances of which nothing is known; the sums leave them out.
    pub unknown: usize,
    /// Whether some of it is taken from other instances.
    pub guessed: bool,
    /// One a pipeline instance: what those take that are not there yet.
    #[serde(skip)]
    pub costs: Vec<Option<Cost>>,
}

impl Estimate {
    /// What carrying out a plan takes, given what an instance took before. None where nothing has to be done, or nothing
    /// is known of what has.
    pub fn new(pipeline: &Pipeline, plan: &Plan, cost: impl Fn(usize) -> Option<Cost>) -> Option<Self> {
        let is_wanted = |index: &usize| plan.nodes[*index].as_ref().is_some_and(|node| node.state.has_work());
        let mut costs = vec![None; plan.nodes.len()];
        let mut unknown = 0;
        for index in (0..plan.nodes.len()).filter(is_wanted) {
            costs[index] = cost(index);
            unknown += usize::from(costs[index].is_none());
        }
        let known = || costs.iter().flatten();
        known().next()?;
        Some(Self {
            seconds: known().map(|cost| cost.seconds).sum(),
            critical_path_seconds: critical_path(pipeline, &costs),
            bytes: known().filter_map(|cost| cost.bytes).sum(),
            unknown,
            guessed: known().any(|cost| cost.guessed),
            costs,
        })
    }
}

/// Inputs stand before those who need them, so one pass is enough.
fn critical_path(pipeline: &Pipeline, costs: &[Option<Cost>]) -> f64 {
    let mut ends: Vec<f64> = Vec::with_capacity(costs.len());
    for (instance, cost) in pipeline.instances.iter().zip(costs) {
        let begins = instance.inputs.values().flatten().map(|input| ends[input.instance]).fold(0.0, f64::max);
        ends.push(begins + cost.map_or(0.0, |cost| cost.seconds));
    }
    ends.into_iter().fold(0.0, f64::max)
}
