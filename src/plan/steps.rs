//! How many optimizer steps the arms of a plan ask for, and how many will be computed: arms that agree up to a step share it.
//!
//! Pure: rows of tokens and states that are saved are asked of the caller. Inputs that are yet to be made are told apart by
//! who makes them.

use std::collections::HashSet;

use neftpipe_protocol::params::TrainParams;
use neftpipe_protocol::training::{Statics, checkpoint_steps, step_keys};
use neftpipe_protocol::{Digest, Kind};
use serde::Serialize;

use super::Plan;
use crate::spec::model::{Instance, Pipeline};

/// Rows that stand for those of tokens which are yet to be made: where `steps` says how long training is, any number tells
/// the same.
const SOME_ROWS: u64 = 1024;

/// Steps of the training that a plan holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Steps {
    /// Sum over all arms that are not there yet, those that ask for the same counted as one.
    pub asked: u64,
    /// Those that are left when each step that arms share is computed once.
    pub computed: u64,
    /// Arms whose number of steps depends on tokens that are not made yet; the sums leave them out.
    pub unknown: usize,
}

impl Steps {
    /// The steps of a plan's arms, in the order of the file. None where it holds no training. `rows` are the training rows of
    /// the tokens that an instance made; `is_saved` says whether there is a state under a key.
    pub fn new(
        pipeline: &Pipeline,
        plan: &Plan,
        rows: impl Fn(usize) -> Option<u64>,
        is_saved: impl Fn(&Digest) -> bool,
    ) -> Option<Self> {
        let arms = pipeline.instances.iter().zip(&plan.nodes).filter(|(instance, _)| instance.kind == Kind::Train);
        let mut wanted = arms.filter(|(_, node)| node.as_ref().is_some_and(|node| node.state.has_work())).peekable();
        wanted.peek()?;
        let ways: Vec<Option<Way>> = wanted.map(|(arm, _)| way(pipeline, plan, arm, &rows)).collect();
        let cuts: HashSet<Digest> = ways.iter().flatten().flat_map(Way::cuts).collect();
        let (mut steps, mut computed, mut ends) = (Self::default(), HashSet::new(), HashSet::new());
        for way in &ways {
            let Some(Way { keys, .. }) = way else {
                steps.unknown += 1;
                continue;
            };
            if !ends.insert(keys.last().copied()) {
                continue;
            }
            let is_there = |key: &Digest| computed.contains(key) && cuts.contains(key) || is_saved(key);
            let known = keys.iter().rposition(is_there).map_or(0, |at| at + 1);
            steps.asked += keys.len() as u64;
            steps.computed += (keys.len() - known) as u64;
            computed.extend(keys.iter().copied());
        }
        Some(steps)
    }
}

/// The states that an arm passes, and where it saves them.
struct Way {
    keys: Vec<Digest>,
    saves: Vec<u64>,
}

impl Way {
    fn cuts(&self) -> impl Iterator<Item = Digest> + '_ {
        self.saves.iter().map(|&step| self.keys[step as usize - 1])
    }
}

/// None where the length of training depends on tokens that are yet to be made, or is nothing.
fn way(pipeline: &Pipeline, plan: &Plan, arm: &Instance, rows: &impl Fn(usize) -> Option<u64>) -> Option<Way> {
    let params: TrainParams = arm.typed_params().ok()?;
    let input = |slot: &str| arm.inputs.get(slot)?.first();
    let rows = match (rows(input("tokens")?.instance), params.steps) {
        (Some(rows), _) => rows,
        (None, Some(_)) => SOME_ROWS,
        (None, None) => return None,
    };
    let digest = |slot: &str| {
        let input = input(slot)?;
        let made = plan.nodes[input.instance].as_ref().and_then(|node| node.outputs.get(&input.output).copied());
        let stand_in = || Digest::of(format!("{}.{}", pipeline.instances[input.instance].id, input.output).as_bytes());
        Some(made.unwrap_or_else(stand_in))
    };
    let (model, tokens, adapter) = (digest("model")?, digest("tokens")?, digest("adapter"));
    let statics = Statics { params: &params, model, tokens, adapter, rows };
    (rows > 0).then(|| Way { keys: step_keys(statics), saves: checkpoint_steps(&params, rows) })
}
