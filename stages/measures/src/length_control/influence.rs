//! What each prompt contributes to a length-controlled win rate, the fit included.
//!
//! The rate is one number of one fit, so that a prompt has no rate of its own. But how the rate moves with a prompt's weight
//! can be told from the fit as it stands: the infinitesimal jackknife (B. Efron, "The jackknife, the bootstrap and other
//! resampling plans", 1982). With m_i for how often prompt i is drawn (1 in the sample itself),
//!
//! rate(m) ≈ rate + Σ (m_i − 1) · ∂rate/∂m_i, and pseudo-value i = rate + n · (∂rate/∂m_i − their mean),
//!
//! so that drawing pseudo-values with replacement and taking their mean is drawing prompts with replacement and fitting
//! anew, to first order. A weight moves the mean of the predictions, the coefficients (by a Newton step), and the standard
//! deviation that lengths are divided by. Coefficients that the penalty holds at 0 stay there; C, the difficulties and the
//! rows of the baselines with forced length are what length is controlled with, and no sample.

use super::fit::{self, FEATURES, Problem, Vector, dot, sigmoid};
use super::{JudgedPair, LengthControlError};
use crate::summary::{mean, standard_deviation};
use crate::win_rate::win_share;

/// The judged pairs as the fit sees them, the unread among them.
pub(super) struct Sample {
    /// characters(output_1) − characters(output_2).
    differences: Vec<f64>,
    deviation: f64,
    features: Vec<Vector>,
    shares: Vec<Option<f64>>,
}

impl Sample {
    /// # Errors
    /// Where all pairs differ in length by the same amount.
    pub fn new(pairs: &[JudgedPair<'_>], difficulties: &[f64]) -> Result<Self, LengthControlError> {
        let difference = |pair: &JudgedPair<'_>| pair.length_1_characters as f64 - pair.length_2_characters as f64;
        let differences: Vec<f64> = pairs.iter().map(difference).collect();
        let deviation = standard_deviation(&differences)
            .filter(|&deviation| deviation > 0.0)
            .ok_or(LengthControlError::ConstantLength(pairs.len()))?;
        let feature = |(value, &difficulty): (&f64, &f64)| [(value / deviation).tanh(), difficulty, 1.0];
        Ok(Self {
            features: differences.iter().zip(difficulties).map(feature).collect(),
            shares: pairs.iter().map(|pair| pair.preference.and_then(win_share)).collect(),
            differences,
            deviation,
        })
    }

    /// Features and targets of the pairs that are fitted.
    pub fn judged(&self) -> impl Iterator<Item = (Vector, f64)> {
        self.features.iter().zip(&self.shares).filter_map(|(&features, share)| Some((features, (*share)?)))
    }

    /// One a pair; their mean is that of the predictions.
    pub fn pseudo_values(&self, problem: &Problem, w: Vector, predicted: &[f64]) -> Vec<f64> {
        let n = predicted.len() as f64;
        let response = fit::solve(&problem.curvature(w), self.slope(predicted), w.map(|value| value != 0.0));
        let by_deviation = problem.c * dot(response, self.pull_of_deviation(w));
        let centre = mean(&self.differences).unwrap_or_default();
        let moved = |i: usize| {
            let spread = (self.differences[i] - centre).powi(2) / (2.0 * (n - 1.0) * self.deviation);
            let pull = self.shares[i].map_or(0.0, |share| {
                problem.c * (sigmoid(dot(w, self.features[i])) - share) * dot(response, self.features[i])
            });
            predicted[i] - n * (pull + by_deviation * spread)
        };
        let moved: Vec<f64> = (0..predicted.len()).map(moved).collect();
        let shift = mean(predicted).unwrap_or_default() - mean(&moved).unwrap_or_default();
        moved.into_iter().map(|value| value + shift).collect()
    }

    /// How the mean prediction moves with the coefficients.
    fn slope(&self, predicted: &[f64]) -> Vector {
        let mut slope = [0.0; FEATURES];
        for (features, q) in self.features.iter().zip(predicted) {
            let at_equal_length = [0.0, features[1], features[2]];
            (0..FEATURES).for_each(|k| slope[k] += q * (1.0 - q) * at_equal_length[k] / predicted.len() as f64);
        }
        slope
    }

    /// How the gradient of the loss moves with the standard deviation of the lengths.
    fn pull_of_deviation(&self, w: Vector) -> Vector {
        let mut pull = [0.0; FEATURES];
        for ((features, share), difference) in self.features.iter().zip(&self.shares).zip(&self.differences) {
            let Some(share) = share else { continue };
            let p = sigmoid(dot(w, *features));
            let tanh_moves = (features[0] * features[0] - 1.0) * difference / self.deviation.powi(2);
            (0..FEATURES).for_each(|k| pull[k] += p * (1.0 - p) * w[0] * tanh_moves * features[k]);
            pull[0] += (p - share) * tanh_moves;
        }
        pull
    }
}
