//! The chain of keys of a training run: one key for the state after each step.
//!
//! H_0 holds what is static, H_k = H(H_{k−1}, effective values of step k). Two runs that agree up to step k have equal
//! keys up to k, wherever their checkpoints lie, and so can share them.

use serde_json::Value;

use super::TrainingPlan;
use super::order::batches;
use crate::params::train::TrainParams;
use crate::params::{StageParams, remove};
use crate::{Digest, KeyHasher, Kind};

/// What does not change from step to step.
#[derive(Debug, Clone, Copy)]
pub struct Statics<'a> {
    /// The parameters.
    pub params: &'a TrainParams,
    /// Digest of the model.
    pub model: Digest,
    /// Digest of the tokens.
    pub tokens: Digest,
    /// Digest of the adapter that training starts from.
    pub adapter: Option<Digest>,
    /// Training rows.
    pub rows: u64,
}

/// Keys of the states after 1, 2, … steps.
pub fn step_keys(statics: Statics<'_>) -> Vec<Digest> {
    let TrainingPlan { learning_rates, alphas, mask_updates } = TrainingPlan::new(statics.params, statics.rows);
    let rows = batches(
        statics.rows,
        statics.params.batch.size,
        learning_rates.len() as u64,
        statics.params.shuffle,
        statics.params.seed,
    );
    let noise =
        serde_json::to_value((&statics.params.neft.noise, &statics.params.neft.length)).expect("noise serialises");
    let masks = masking(statics.params);
    let mut key = first_key(statics);
    learning_rates
        .iter()
        .zip(&alphas)
        .zip(&rows)
        .zip(&mask_updates)
        .map(|(((rate, alpha), rows), update)| {
            let mut hasher = KeyHasher::new("neftpipe 2026 training step v1");
            hasher.add(&key).add(rate).add(alpha).add(rows.as_slice());
            if *alpha > 0.0 {
                hasher.add(&noise);
            }
            if let Some(update) = update {
                hasher.add(&masks).add(&update.sparsity).add(&update.exchange);
            }
            key = hasher.finish();
            key
        })
        .collect()
}

/// What decides an update of the masks besides its step.
fn masking(params: &TrainParams) -> Value {
    let mut masking = serde_json::to_value(&params.sparsity).expect("parameters serialise");
    let scheduled = ["target", "initial", "ramp", "start", "end", "every", "exchange"];
    scheduled.iter().for_each(|path| remove(&mut masking, path));
    masking
}

/// The step from whose state a longer run of these parameters goes on: the last of a constant learning rate, that before the
/// decay of a `wsd`. None where the rates of all steps depend on how many there are.
pub fn extension_step(params: &TrainParams, rows: u64) -> Option<u64> {
    TrainingPlan::steps_before_decay(params, rows)
}

/// Steps after which a checkpoint is taken: every `checkpoint_every`, where alpha jumps under a step schedule, before masks
/// are first made, where the learning rate begins to decay, and at the end.
pub fn checkpoint_steps(params: &TrainParams, rows: u64) -> Vec<u64> {
    let plan = TrainingPlan::new(params, rows);
    let every = params.checkpoint_every.max(1);
    let jumps = matches!(params.neft.schedule, crate::params::train::AlphaSchedule::Step { .. });
    let first_masks = plan.mask_updates.iter().position(Option::is_some);
    let extension = extension_step(params, rows);
    (1..=plan.steps())
        .filter(|&step| {
            let jump = jumps && step < plan.steps() && plan.alphas[step as usize] != plan.alphas[step as usize - 1];
            let masks = first_masks == Some(step as usize);
            step % every == 0 || step == plan.steps() || jump || masks || extension == Some(step)
        })
        .collect()
}

fn first_key(statics: Statics<'_>) -> Digest {
    let mut params: Value = serde_json::to_value(statics.params).expect("parameters serialise");
    statics.params.prune(&mut params);
    let scheduled = ["steps", "epochs", "learning_rate", "schedule", "warmup", "neft"];
    TrainParams::NOT_IN_KEY.iter().chain(&scheduled).for_each(|path| remove(&mut params, path));
    // Updates of the masks are in the keys of their steps.
    params["sparsity"] = Value::Null;
    // With it a state holds the best weights too, and which those are depends on the rule.
    if statics.params.early_stopping.is_none() {
        remove(&mut params, "early_stopping");
    }
    let mut hasher = KeyHasher::new("neftpipe 2026 training start v1");
    hasher.add(&u64::from(Kind::Train.version())).add(&params).add(&statics.model).add(&statics.tokens);
    if let Some(adapter) = &statics.adapter {
        hasher.add(adapter);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keys(params: Value) -> Vec<Digest> {
        let params: TrainParams = serde_json::from_value(params).unwrap();
        step_keys(Statics {
            params: &params,
            model: Digest::of(b"m"),
            tokens: Digest::of(b"t"),
            adapter: None,
            rows: 50,
        })
    }

    fn shared(a: &[Digest], b: &[Digest]) -> usize {
        a.iter().zip(b).take_while(|(a, b)| a == b).count()
    }

    #[test]
    fn a_step_decay_arm_shares_the_constant_arms_prefix() {
        let constant = keys(json!({"steps": 20, "schedule": "constant", "neft": {"alpha": 5}}));
        let halved = keys(
            json!({"steps": 20, "schedule": "constant", "neft": {"alpha": 5, "schedule": {"step": {"at": [0.5], "factor": 0.5}}}}),
        );
        assert_eq!(shared(&constant, &halved), 10);
    }

    #[test]
    fn more_steps_at_a_constant_rate_continue() {
        let short = keys(json!({"steps": 10, "schedule": "constant", "warmup": 2}));
        let long = keys(json!({"steps": 30, "schedule": "constant", "warmup": 2}));
        assert_eq!(shared(&short, &long), 10);
        let cosine = keys(json!({"steps": 30, "warmup": 2}));
        assert_eq!(shared(&long, &cosine), 3);
    }

    #[test]
    fn more_steps_under_wsd_continue_where_the_decay_began() {
        let params = |steps: u64| json!({"steps": steps, "schedule": {"wsd": {"decay": 0.3}}, "warmup": 2});
        let typed = |steps: u64| serde_json::from_value::<TrainParams>(params(steps)).unwrap();
        assert_eq!(shared(&keys(params(10)), &keys(params(30))), 8);
        assert_eq!(extension_step(&typed(10), 50), Some(8));
        assert_eq!(checkpoint_steps(&typed(10), 50), [8, 10]);
        assert_eq!(extension_step(&serde_json::from_value(json!({"steps": 10})).unwrap(), 50), None);
        let all = json!({"steps": 10, "schedule": {"wsd": {"decay": 1}}, "warmup": 0});
        assert_eq!(
            extension_step(&serde_json::from_value(all).unwrap(), 50),
            Some(1),
            "only the first step is at the full rate"
        );
    }

    #[test]
    fn keys_do_not_depend_on_where_the_cuts_are_nor_on_micro_batches() {
        assert_eq!(keys(json!({"steps": 5})), keys(json!({"steps": 5, "checkpoint_every": 2, "batch": {"micro": 1}})));
        assert_ne!(keys(json!({"steps": 5})), keys(json!({"steps": 5, "seed": 1})));
    }

    #[test]
    fn what_a_state_holds_besides_is_not_shared_with_arms_without_it() {
        let plain = json!({"steps": 5, "eval_every": 1});
        let stopping = |patience: u64| json!({"steps": 5, "eval_every": 1, "early_stopping": {"patience": patience}});
        assert_eq!(shared(&keys(plain.clone()), &keys(stopping(1))), 0);
        assert_eq!(shared(&keys(stopping(1)), &keys(stopping(2))), 0);
        assert_eq!(keys(plain), keys(json!({"steps": 5, "eval_every": 1, "early_stopping": null})));
        assert_eq!(shared(&keys(json!({"steps": 5})), &keys(json!({"steps": 5, "lora": {"dropout": 0.1}}))), 0);
    }

    #[test]
    fn a_sparse_arm_shares_the_dense_arms_prefix_up_to_its_first_mask() {
        let with = |sparsity: Value| json!({"steps": 20, "schedule": "constant", "sparsity": sparsity});
        let dense = keys(json!({"steps": 20, "schedule": "constant"}));
        let delta = keys(with(json!({"scope": "delta", "target": 0.5, "start": 0.5, "every": 2})));
        assert_eq!(shared(&dense, &delta), 10);
        let slower = keys(with(json!({"scope": "delta", "target": 0.5, "start": 0.5, "every": 4})));
        assert_eq!(shared(&delta, &slower), 12, "the first mask is the same; what follows is not");
        let factors = keys(with(json!({"scope": "lora_factors", "target": 0.5, "start": 0.5, "every": 2})));
        assert_eq!(shared(&delta, &factors), 10);
        assert_eq!(keys(with(json!({"scope": "delta", "target": 0}))), dense);
        let cuts = json!({"steps": 20, "sparsity": {"scope": "delta", "target": 0.5, "start": 0.3}});
        assert_eq!(checkpoint_steps(&serde_json::from_value(cuts).unwrap(), 10), [6, 20]);
    }

    #[test]
    fn cuts_lie_at_the_period_at_jumps_and_at_the_end() {
        let params = serde_json::from_value(
            json!({"steps": 12, "checkpoint_every": 5, "neft": {"alpha": 5, "schedule": {"step": {"at": [0.5], "factor": 0.5}}}}),
        );
        assert_eq!(checkpoint_steps(&params.unwrap(), 10), [5, 6, 10, 12]);
    }
}
