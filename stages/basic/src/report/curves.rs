//! Training curves thinned to what a screen can show.

use neftpipe_protocol::artifact::TrainStep;
use serde::Serialize;

/// Most numbers that all curves of a page have together, so that the page stays small however long the runs were.
const MOST_NUMBERS: usize = 60_000;
/// Fewest points that a run keeps.
const FEWEST_POINTS: usize = 50;
/// Curves of a run, the steps among them.
const CURVES: usize = 5;

/// The curves of one run. Lists run in parallel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curves {
    /// The steps, each the last of those whose mean follows.
    pub step: Vec<u64>,
    /// Loss of the batches, noise on.
    pub loss: Vec<f64>,
    /// Strength of the noise.
    pub alpha: Vec<f64>,
    /// Learning rate.
    pub learning_rate: Vec<f64>,
    /// Norm of the gradient before clipping.
    pub gradient_norm: Vec<f64>,
}

/// How many points each of so many runs may have.
pub fn points_per_run(runs: usize) -> usize {
    (MOST_NUMBERS / (CURVES * runs.max(1))).max(FEWEST_POINTS)
}

/// The curves of a run, at most so many points, each the mean of an equal number of steps.
pub fn curves(steps: &[TrainStep], most_points: usize) -> Curves {
    let stride = steps.len().div_ceil(most_points.max(1)).max(1);
    let mean = |of: fn(&TrainStep) -> f64| {
        steps.chunks(stride).map(|group| round(group.iter().map(of).sum::<f64>() / group.len() as f64)).collect()
    };
    Curves {
        step: steps.chunks(stride).filter_map(|group| Some(group.last()?.step)).collect(),
        loss: mean(|step| step.loss),
        alpha: mean(|step| step.alpha),
        learning_rate: mean(|step| step.learning_rate),
        gradient_norm: mean(|step| step.gradient_norm),
    }
}

/// Five significant digits are more than a screen shows.
fn round(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> TrainStep {
        TrainStep {
            step,
            loss: step as f64,
            learning_rate: 1.0 / 3.0,
            alpha: 5.0,
            noise_magnitude: 0.01,
            gradient_norm: 1.0,
            tokens: 10,
            supervised_tokens: 5,
        }
    }

    #[test]
    fn long_runs_are_thinned_to_means() {
        let steps: Vec<_> = (1..=10).map(step).collect();
        let thin = curves(&steps, 4);
        assert_eq!(thin.step, [3, 6, 9, 10]);
        assert_eq!(thin.loss, [2.0, 5.0, 8.0, 10.0]);
        assert_eq!(thin.learning_rate[0], 0.33333);
        assert_eq!(curves(&steps, 100).loss.len(), 10);
        assert!(curves(&[], 100).step.is_empty());
    }

    #[test]
    fn many_runs_share_the_room() {
        assert_eq!(points_per_run(6), 2000);
        assert_eq!(points_per_run(100_000), FEWEST_POINTS);
    }
}
