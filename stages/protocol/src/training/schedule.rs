//! Learning rate and noise strength as functions of the optimizer step.

use super::sparsity::{MaskUpdate, mask_updates};
use crate::params::train::{AlphaSchedule, LearningRateSchedule, TrainParams};

/// What rounding may take from a fraction of training that is a whole step on paper: (0.6 − 0.2) / 0.8 is below 0.5 in f64.
const ROUNDING: f64 = 1e-9;

/// The effective values of every step of one training run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingPlan {
    /// Learning rate by step.
    pub learning_rates: Vec<f64>,
    /// Noise strength by step.
    pub alphas: Vec<f64>,
    /// Updates of the masks by step, where sparsity asks for one.
    pub mask_updates: Vec<Option<MaskUpdate>>,
}

impl TrainingPlan {
    /// The plan for these parameters on so many training rows.
    pub fn new(params: &TrainParams, rows: u64) -> Self {
        let steps = total_steps(params, rows);
        let learning_rates = (0..steps).map(|step| learning_rate(params, step, steps)).collect();
        let mut alphas: Vec<f64> = (0..steps).map(|step| alpha(params, step, steps)).collect();
        if let Some(target) = params.neft.match_energy {
            rescale(&mut alphas, target);
        }
        let mask_updates = mask_updates(params.sparsity.as_ref(), steps);
        Self { learning_rates, alphas, mask_updates }
    }

    /// Steps at the highest rate at the end of which a decay begins, warm-up counted among them: a longer run takes them too.
    pub(super) fn steps_before_decay(params: &TrainParams, rows: u64) -> Option<u64> {
        let steps = total_steps(params, rows);
        match params.schedule {
            LearningRateSchedule::Constant => Some(steps),
            LearningRateSchedule::Wsd { decay } => Some(steps + 1 - decay_steps(decay, steps).min(steps)),
            LearningRateSchedule::Cosine | LearningRateSchedule::Linear => None,
        }
    }

    /// Optimizer steps.
    pub fn steps(&self) -> u64 {
        self.learning_rates.len() as u64
    }
}

/// Mean of the squares: the energy by which noise schedules are compared.
pub fn mean_square(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64 }
}

fn total_steps(params: &TrainParams, rows: u64) -> u64 {
    params.steps.unwrap_or_else(|| {
        let epochs = params.epochs.unwrap_or(TrainParams::DEFAULT_EPOCHS);
        (epochs * rows as f64 / params.batch.size as f64 - ROUNDING).ceil() as u64
    })
}

fn decay_steps(decay: f64, steps: u64) -> u64 {
    (decay * steps as f64).round().max(1.0) as u64
}

/// As `get_cosine_schedule_with_warmup` and its siblings of transformers: step 0 of a warm-up has rate 0.
fn learning_rate(params: &TrainParams, step: u64, steps: u64) -> f64 {
    let warmup = if params.warmup < 1.0 { (params.warmup * steps as f64).ceil() } else { params.warmup };
    let step = step as f64;
    if step < warmup {
        return params.learning_rate * step / warmup.max(1.0);
    }
    let progress = (step - warmup) / (steps as f64 - warmup).max(1.0);
    let factor = match params.schedule {
        LearningRateSchedule::Constant => 1.0,
        LearningRateSchedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        LearningRateSchedule::Linear => 1.0 - progress,
        LearningRateSchedule::Wsd { decay } => ((steps as f64 - step) / decay_steps(decay, steps) as f64).min(1.0),
    };
    params.learning_rate * factor.max(0.0)
}

/// Schedules of science: p = t/T from 0, `warmup` ahead of any.
fn alpha(params: &TrainParams, step: u64, steps: u64) -> f64 {
    let neft = &params.neft;
    let start = neft.alpha;
    if start == 0.0 {
        return 0.0;
    }
    let time = step as f64 / steps as f64;
    if time < neft.warmup {
        return start * time / neft.warmup;
    }
    let p = if neft.warmup < 1.0 { (time - neft.warmup) / (1.0 - neft.warmup) } else { 1.0 };
    match &neft.schedule {
        AlphaSchedule::Constant => start,
        AlphaSchedule::Linear { to } => to + (start - to) * (1.0 - p),
        AlphaSchedule::Cosine { to } => to + (start - to) * (1.0 + (std::f64::consts::PI * p).cos()) / 2.0,
        AlphaSchedule::Step { at, factor } => {
            at.iter().filter(|&&jump| p >= jump - ROUNDING).fold(start, |alpha, _| alpha * factor)
        }
        AlphaSchedule::Exponential { to } => start * (to / start).powf(p),
    }
}

fn rescale(alphas: &mut [f64], target: f64) {
    let energy = mean_square(alphas);
    if energy > 0.0 {
        let factor = target / energy.sqrt();
        alphas.iter_mut().for_each(|alpha| *alpha *= factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn plan(params: Value) -> TrainingPlan {
        TrainingPlan::new(&serde_json::from_value(params).unwrap(), 100)
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn steps_come_from_steps_or_epochs() {
        assert_eq!(plan(json!({"steps": 7})).steps(), 7);
        assert_eq!(plan(json!({"epochs": 1, "batch": {"size": 8}})).steps(), 13);
        assert_eq!(plan(json!({})).steps(), 38);
        assert_eq!(plan(json!({"epochs": 1.1, "batch": {"size": 1}})).steps(), 110, "110.00000000000001 in f64");
    }

    #[test]
    fn cosine_with_warmup_is_that_of_transformers() {
        let rates = plan(json!({"steps": 10, "warmup": 2, "learning_rate": 1})).learning_rates;
        close(rates[0], 0.0);
        close(rates[1], 0.5);
        close(rates[2], 1.0);
        close(rates[6], 0.5);
    }

    #[test]
    fn wsd_is_flat_then_falls() {
        let rates = plan(json!({"steps": 10, "warmup": 0, "learning_rate": 1, "schedule": {"wsd": {"decay": 0.2}}}))
            .learning_rates;
        assert!(rates[..9].iter().all(|&rate| rate == 1.0));
        close(rates[9], 0.5);
    }

    #[test]
    fn a_jump_comes_at_its_step_after_a_warmup_too() {
        let schedule = json!({"step": {"at": [0.5], "factor": 0.5}});
        let neft = json!({"alpha": 8, "warmup": 0.2, "schedule": schedule});
        let alphas = plan(json!({"steps": 10, "neft": neft})).alphas;
        assert_eq!(alphas, [0.0, 4.0, 8.0, 8.0, 8.0, 8.0, 4.0, 4.0, 4.0, 4.0]);
    }

    #[test]
    fn alpha_schedules_follow_their_formulas() {
        let alphas = |schedule: Value| plan(json!({"steps": 4, "neft": {"alpha": 8, "schedule": schedule}})).alphas;
        assert_eq!(alphas(json!("constant")), [8.0; 4]);
        assert_eq!(alphas(json!({"linear": {"to": 0}})), [8.0, 6.0, 4.0, 2.0]);
        assert_eq!(alphas(json!({"step": {"at": [0.5, 0.75], "factor": 0.5}})), [8.0, 8.0, 4.0, 2.0]);
        close(alphas(json!({"cosine": {"to": 0}}))[2], 4.0);
        close(alphas(json!({"exponential": {"to": 0.5}}))[2], 2.0);
    }

    #[test]
    fn warmup_of_alpha_runs_ahead_of_the_schedule() {
        let alphas =
            plan(json!({"steps": 4, "neft": {"alpha": 8, "warmup": 0.5, "schedule": {"linear": {"to": 0}}}})).alphas;
        assert_eq!(alphas, [0.0, 4.0, 8.0, 4.0]);
    }

    #[test]
    fn matched_energy_is_that_of_the_constant_arm() {
        let alphas =
            plan(json!({"steps": 9, "neft": {"alpha": 8, "schedule": {"linear": {"to": 0}}, "match_energy": 5}}))
                .alphas;
        close(mean_square(&alphas), 25.0);
    }
}
