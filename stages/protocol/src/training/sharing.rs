//! How many optimizer steps the training above a report asks for, and how many are left when runs that agree up to a step
//! share it. What was saved earlier, and where checkpoints lie, is no concern here.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{Statics, step_keys};
use crate::params::TrainParams;
use crate::request::{Lineage, LineageStage};
use crate::{Digest, Kind};

/// Steps of the training runs of a lineage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedSteps {
    /// Runs whose steps are known, those that ask for the same counted as one.
    pub runs: usize,
    /// Sum of their steps.
    pub asked: u64,
    /// How many of these are different.
    pub distinct: u64,
    /// Runs of which the lineage does not say enough; the sums leave them out.
    pub unknown: usize,
}

impl SharedSteps {
    /// The steps of a lineage's training. None where it holds none.
    pub fn of(lineage: &Lineage) -> Option<Self> {
        let made: HashMap<&str, &LineageStage> =
            lineage.stages.iter().map(|stage| (stage.id.as_str(), stage)).collect();
        let mut runs = lineage.stages.iter().filter(|stage| stage.kind == Kind::Train).peekable();
        runs.peek()?;
        let (mut steps, mut distinct, mut ends) = (Self::default(), HashSet::new(), HashSet::new());
        for run in runs {
            match keys(run, &made) {
                None => steps.unknown += 1,
                Some(keys) if ends.insert(keys.last().copied()) => {
                    steps.runs += 1;
                    steps.asked += keys.len() as u64;
                    distinct.extend(keys);
                }
                Some(_) => {}
            }
        }
        steps.distinct = distinct.len() as u64;
        Some(steps)
    }
}

/// The state after each step of a run; none where the lineage lacks something of it.
fn keys(run: &LineageStage, made: &HashMap<&str, &LineageStage>) -> Option<Vec<Digest>> {
    let params: TrainParams = serde_json::from_value(run.params.clone()).ok()?;
    let input = |slot: &str| {
        let input = run.inputs.get(slot)?.first()?;
        let maker = *made.get(input.stage.as_str())?;
        Some((maker, *maker.outputs.get(&input.output)?))
    };
    let adapter = match run.inputs.contains_key("adapter") {
        true => Some(input("adapter")?.1),
        false => None,
    };
    let (tokens, digest) = input("tokens")?;
    let rows = tokens.training_rows.filter(|&rows| rows > 0)?;
    Some(step_keys(Statics { params: &params, model: input("model")?.1, tokens: digest, adapter, rows }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::resolve;
    use crate::request::LineageInput;
    use serde_json::{Value, json};

    fn stage(id: &str, kind: Kind, output: &str, params: Value, needs: &[(&str, &str, &str)]) -> LineageStage {
        let input = |(slot, stage, output): &(&str, &str, &str)| {
            let input = LineageInput { stage: (*stage).to_owned(), output: (*output).to_owned() };
            ((*slot).to_owned(), vec![input])
        };
        LineageStage {
            id: id.to_owned(),
            kind,
            label: None,
            axes: Default::default(),
            params: resolve(kind, params).unwrap().key,
            inputs: needs.iter().map(input).collect(),
            outputs: [(output.to_owned(), Digest::of(id.as_bytes()))].into_iter().collect(),
            training_rows: (kind == Kind::Tokenize).then_some(50),
            key: Digest::of(id.as_bytes()),
        }
    }

    fn steps(runs: &[Value]) -> Option<SharedSteps> {
        let needs = [("model", "model", "output"), ("tokens", "tokens", "tokens")];
        let mut stages = vec![
            stage("model", Kind::Download, "output", json!({"from": "file:m"}), &[]),
            stage("tokens", Kind::Tokenize, "tokens", json!({}), &[]),
        ];
        let run = |(at, params): (usize, &Value)| {
            stage(&format!("train[{at}]"), Kind::Train, "adapter", params.clone(), &needs)
        };
        stages.extend(runs.iter().enumerate().map(run));
        SharedSteps::of(&Lineage { pipeline: String::new(), stages, missing: Vec::new() })
    }

    #[test]
    fn steps_that_runs_agree_upon_count_once() {
        let constant = json!({"steps": 20, "schedule": "constant", "neft": {"alpha": 5}});
        let halved = json!({"steps": 20, "schedule": "constant", "device": "cpu", "checkpoint_every": 7,
            "neft": {"alpha": 5, "schedule": {"step": {"at": [0.5], "factor": 0.5}}}});
        let plain = json!({"epochs": 2, "batch": {"size": 8}});
        let all = [constant.clone(), halved, plain, constant];
        let expected = SharedSteps { runs: 3, asked: 20 + 20 + 13, distinct: 20 + 10 + 13, unknown: 0 };
        assert_eq!(steps(&all), Some(expected));
        assert_eq!(steps(&[]), None);
    }

    #[test]
    fn what_a_lineage_does_not_say_is_not_guessed() {
        let mut lineage = Lineage { pipeline: String::new(), stages: Vec::new(), missing: Vec::new() };
        let needs = [("model", "model", "output"), ("tokens", "tokens", "tokens")];
        lineage.stages.push(stage("train", Kind::Train, "adapter", json!({"steps": 4}), &needs));
        let expected = SharedSteps { unknown: 1, ..SharedSteps::default() };
        assert_eq!(SharedSteps::of(&lineage), Some(expected));
    }
}
