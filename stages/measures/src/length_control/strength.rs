//! How strongly the data count against the penalty: a number, or what cross-validation finds.
//!
//! The public fit tries ten values in five folds (scikit-learn's `LogisticRegressionCV` with `GroupKFold`) and takes the one
//! with the least log loss over the rows that were left out.

use super::fit::{self, FEATURES, Problem, sigmoid};
use super::{Gamed, LengthControlError};

/// C of the penalised fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strength {
    /// This value.
    Fixed(f64),
    /// The best of ten from 1e-4 to 1e4 by the log loss in five folds.
    CrossValidated,
}

impl Default for Strength {
    fn default() -> Self {
        Self::Fixed(super::DEFAULT_C)
    }
}

const VALUES: usize = fit::SEEDS.len();
const FOLDS: usize = 5;
/// Probabilities are kept this far from 0 and 1.
const EPSILON: f64 = 1e-15;

/// A row of the fit, whose target is known.
struct Known {
    features: [f64; FEATURES],
    weight: f64,
    target: f64,
}

/// The best value for the gamed rows and these judged ones (features and targets).
///
/// # Errors
/// Where the targets of the gamed rows are not known, or a fit does not settle.
pub(super) fn choose(gamed: &Gamed, judged: &[([f64; FEATURES], f64)]) -> Result<f64, LengthControlError> {
    let targets = gamed.targets.as_ref().ok_or(LengthControlError::NoTargets)?;
    let gamed_row = |(&[length, difficulty], &target): (&[f64; 2], &f64)| Known {
        features: [length, difficulty, 0.0],
        weight: gamed.weight,
        target,
    };
    let judged_row = |&(features, target): &([f64; FEATURES], f64)| Known { features, weight: 1.0, target };
    let rows: Vec<Known> =
        gamed.features.iter().zip(targets).map(gamed_row).chain(judged.iter().map(judged_row)).collect();
    let mut best = (f64::INFINITY, f64::NAN);
    for (i, seed) in fit::SEEDS.into_iter().enumerate() {
        let c = 10_f64.powf(-4.0 + 8.0 * i as f64 / (VALUES - 1) as f64);
        let losses = (0..FOLDS).map(|fold| loss_left_out(&rows, fold, c, seed)).sum::<Result<f64, _>>()?;
        if losses < best.0 {
            best = (losses, c);
        }
    }
    Ok(best.1)
}

/// The mean loss over the rows of a fold of what is fitted to the others.
fn loss_left_out(rows: &[Known], fold: usize, c: f64, seed: u32) -> Result<f64, LengthControlError> {
    // Groups of equal size are dealt out from the last to the first.
    let is_left_out = |index: usize| (rows.len() - 1 - index) % FOLDS == fold;
    let mut problem = Problem { rows: Vec::new(), linear: [0.0; FEATURES], c, class_sizes: [0; 2] };
    let (left_out, taken): (Vec<_>, Vec<_>) = rows.iter().enumerate().partition(|&(index, _)| is_left_out(index));
    taken.iter().for_each(|(_, row)| problem.add_row(row.features, row.weight, row.target));
    let w = fit::minimise(&problem, seed)?;
    let loss = |row: &Known| {
        let logit: f64 = w.iter().zip(row.features).map(|(w, x)| w * x).sum();
        let p = sigmoid(logit).clamp(EPSILON, 1.0 - EPSILON);
        -row.weight * (row.target * p.ln() + (1.0 - row.target) * (1.0 - p).ln())
    };
    Ok(left_out.iter().map(|(_, row)| loss(row)).sum::<f64>() / left_out.len().max(1) as f64)
}
