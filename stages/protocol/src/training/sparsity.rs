//! When masks of Sparse-NEFT are updated, how many zeros they then have, and how much of them is exchanged.

use crate::params::train::{Grow, Ramp, Sparsity};

/// An update of the masks, after the optimizer's part of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskUpdate {
    /// Fraction of zeros afterwards.
    pub sparsity: f64,
    /// Fraction of the active entries that are exchanged for inactive ones.
    pub exchange: f64,
}

/// The update of every step, where it has one. The first makes the masks; those that would change nothing are left out.
///
/// They lie `every` steps apart from `start` to `end`, i = 0…n of them, with p = i/n: sparsity s_f + (s_i − s_f)(1 − p)³
/// under a cubic ramp (arXiv 1710.01878), exchange zeta·(1 + cos πp)/2 (arXiv 1911.11134).
pub fn mask_updates(sparsity: Option<&Sparsity>, steps: u64) -> Vec<Option<MaskUpdate>> {
    let mut updates = vec![None; steps as usize];
    let Some(sparsity) = sparsity else { return updates };
    // What begins or ends with training does so at its last step, so that no arm ends without the masks that it asks for.
    let at = |fraction: f64| ((fraction * steps as f64).round() as u64).min(steps.saturating_sub(1));
    let (start, end) = (at(sparsity.start), at(sparsity.end));
    let last = end.saturating_sub(start) / sparsity.every;
    let mut zeros = 0.0;
    for index in 0..=last {
        let p = if last == 0 { 1.0 } else { index as f64 / last as f64 };
        let update = MaskUpdate { sparsity: ramp(sparsity, p), exchange: exchange(sparsity, p) };
        let changes = update.sparsity != zeros || (zeros > 0.0 && update.exchange > 0.0);
        if let Some(slot) = updates.get_mut((start + index * sparsity.every) as usize).filter(|_| changes) {
            *slot = Some(update);
        }
        zeros = update.sparsity;
    }
    updates
}

fn ramp(sparsity: &Sparsity, p: f64) -> f64 {
    let Sparsity { initial, target, .. } = *sparsity;
    match sparsity.ramp {
        Ramp::None => target,
        Ramp::Linear => target + (initial - target) * (1.0 - p),
        Ramp::Cubic => target + (initial - target) * (1.0 - p).powi(3),
    }
}

fn exchange(sparsity: &Sparsity, p: f64) -> f64 {
    match sparsity.grow {
        Grow::None => 0.0,
        Grow::Gradient | Grow::Random => sparsity.exchange * (1.0 + (std::f64::consts::PI * p).cos()) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn updates(mut params: Value, steps: u64) -> Vec<(u64, f64, f64)> {
        params["scope"] = json!("delta");
        let sparsity: Sparsity = serde_json::from_value(params).unwrap();
        let found = (0..).zip(mask_updates(Some(&sparsity), steps));
        found.filter_map(|(step, update)| update.map(|it| (step, it.sparsity, it.exchange))).collect()
    }

    #[test]
    fn the_cubic_ramp_ends_at_the_target_and_the_exchange_at_nothing() {
        let found = updates(json!({"target": 0.8, "ramp": "cubic", "start": 0.1, "end": 0.5, "every": 10}), 100);
        let steps: Vec<u64> = found.iter().map(|update| update.0).collect();
        assert_eq!(steps, [20, 30, 40, 50], "at step 10 there is no zero yet");
        assert!((found[1].1 - 0.8 * (1.0 - 0.125)).abs() < 1e-12);
        assert!((found[1].2 - 0.15).abs() < 1e-12);
        assert_eq!((found[3].1, found[3].2), (0.8, 0.0));
    }

    #[test]
    fn a_static_mask_is_made_once() {
        assert_eq!(updates(json!({"target": 0.5, "exchange": 0, "every": 2}), 20), [(0, 0.5, 0.0)]);
        assert_eq!(updates(json!({"target": 0.5, "grow": "none", "start": 0.5, "every": 2}), 20), [(10, 0.5, 0.0)]);
    }

    #[test]
    fn a_mask_without_zeros_is_never_made() {
        assert_eq!(updates(json!({"target": 0}), 20), []);
        assert_eq!(mask_updates(None, 3), [None; 3]);
    }

    #[test]
    fn masks_that_begin_or_end_with_training_are_made_at_its_last_step() {
        assert_eq!(updates(json!({"target": 0.5, "start": 1, "end": 1}), 4), [(3, 0.5, 0.0)]);
        assert_eq!(updates(json!({"target": 0.5, "start": 0.9, "end": 0.9}), 4), [(3, 0.5, 0.0)]);
        let ramp = json!({"target": 0.5, "ramp": "linear", "start": 0, "end": 1, "every": 10, "grow": "none"});
        assert_eq!(updates(ramp, 20), [(10, 0.5, 0.0)], "the ramp comes to its end");
    }
}
