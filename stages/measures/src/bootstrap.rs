//! The bootstrap of a paired contrast over prompts and seeds.
//!
//! Prompts and replicates are crossed (every seed answers the same prompts), so each draw takes prompts with replacement
//! and, independently, replicates with replacement, and averages the cells where they meet (A. Owen, "The pigeonhole
//! bootstrap", 2007). Of m replicates a draw takes m − 1: for so few units that makes the variance of the mean unbiased,
//! where m draws would understate it by (m − 1) / m, a half for two seeds (P. McCarthy and C. Snowden, 1985). A single
//! replicate is taken as it is; then the interval speaks of prompts alone.
//!
//! The interval is the percentile interval. The p-value is two-sided, from the same draws, so that it falls below 5% where
//! the 95% interval leaves out 0. The generator is [`SplitMix64`]; each draw takes its replicates first, then its prompts.

use crate::contrast::Contrast;
use crate::random::SplitMix64;
use crate::summary::{mean, quantile, standard_deviation};
use serde::{Deserialize, Serialize};

/// How many draws a report takes.
pub const DRAWS: usize = 10_000;

/// The coverage of every interval.
pub const LEVEL: f64 = 0.95;

/// A range that holds the true value in [`LEVEL`] of all experiments like this one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// Whether 0 lies in it, ends included: then nothing is called a gain or a loss.
    pub fn holds_zero(&self) -> bool {
        self.low <= 0.0 && 0.0 <= self.high
    }
}

/// What the draws say about the mean of a contrast.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BootstrapMean {
    /// The mean over all cells: the estimate itself, not a mean of draws.
    pub mean: f64,
    /// Standard deviation of the draws.
    pub standard_error: f64,
    /// Percentile interval of the draws.
    pub interval: Interval,
    /// Two-sided p-value for a mean of 0: never 0, at least 2 / (draws + 1).
    pub p_value: f64,
}

/// Resamples a contrast `draws` times ([`DRAWS`] in reports; at least 2).
pub fn bootstrap_mean(contrast: &Contrast, seed: u64, draws: usize) -> BootstrapMean {
    let mut random = SplitMix64::new(seed);
    let mut means: Vec<f64> = (0..draws.max(2)).map(|_| draw_mean(contrast.rows(), &mut random)).collect();
    means.sort_by(f64::total_cmp);
    let tail = (1.0 - LEVEL) / 2.0;
    let end = |probability| quantile(&means, probability).expect("there are at least two draws");
    BootstrapMean {
        mean: mean(&contrast.replicate_means()).expect("a contrast has a replicate"),
        standard_error: standard_deviation(&means).expect("there are at least two draws"),
        interval: Interval { low: end(tail), high: end(1.0 - tail) },
        p_value: two_sided_p(&means),
    }
}

fn draw_mean(rows: &[Vec<f64>], random: &mut SplitMix64) -> f64 {
    let drawn_rows: Vec<&[f64]> = match rows {
        [only] => vec![only],
        _ => (1..rows.len()).map(|_| rows[random.index(rows.len())].as_slice()).collect(),
    };
    let prompts = rows[0].len();
    let mut sum = 0.0;
    for _ in 0..prompts {
        let prompt = random.index(prompts);
        sum += drawn_rows.iter().map(|row| row[prompt]).sum::<f64>();
    }
    sum / (prompts * drawn_rows.len()) as f64
}

/// Twice the smaller share of draws on one side of 0, the observed sample counted as a draw.
fn two_sided_p(sorted: &[f64]) -> f64 {
    let not_above = sorted.partition_point(|&mean| mean <= 0.0);
    let not_below = sorted.len() - sorted.partition_point(|&mean| mean < 0.0);
    let share = (not_above.min(not_below) + 1) as f64 / (sorted.len() + 1) as f64;
    (2.0 * share).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrast::Replicate;

    fn contrast(rows: &[Vec<f64>]) -> Contrast {
        let replicate = |(label, row): (usize, &Vec<f64>)| Replicate {
            label: label.to_string(),
            scores: row.iter().enumerate().map(|(i, &score)| (format!("{i:05}"), score)).collect(),
        };
        let arm: Vec<_> = rows.iter().enumerate().map(replicate).collect();
        let zero: Vec<_> = rows.iter().map(|row| vec![0.0; row.len()]).collect();
        let baseline: Vec<_> = zero.iter().enumerate().map(replicate).collect();
        Contrast::between(&arm, &baseline).unwrap()
    }

    /// Numbers of mean 0 and variance 1.
    fn noise(random: &mut SplitMix64) -> f64 {
        (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * 12.0_f64.sqrt() - 3.0_f64.sqrt()
    }

    #[test]
    fn the_same_seed_gives_the_same_draws() {
        let contrast = contrast(&[vec![1.0, 2.0, -1.0, 0.5]]);
        assert_eq!(bootstrap_mean(&contrast, 3, 100), bootstrap_mean(&contrast, 3, 100));
        assert_ne!(bootstrap_mean(&contrast, 3, 100).interval, bootstrap_mean(&contrast, 4, 100).interval);
    }

    #[test]
    fn identical_arms_have_a_p_of_one() {
        let result = bootstrap_mean(&contrast(&[vec![0.0; 50]]), 0, 200);
        assert_eq!((result.p_value, result.standard_error), (1.0, 0.0));
        assert!(result.interval.holds_zero());
    }

    #[test]
    fn the_standard_error_of_prompts_is_that_of_the_mean() {
        let mut random = SplitMix64::new(11);
        let row: Vec<f64> = (0..400).map(|_| 0.2 + noise(&mut random)).collect();
        let result = bootstrap_mean(&contrast(&[row]), 0, 2000);
        assert!((result.standard_error - 0.05).abs() < 0.005, "{result:?}");
        assert!((result.p_value < 0.05) != result.interval.holds_zero());
    }

    #[test]
    fn few_seeds_keep_their_variance() {
        // Two seeds that differ by 2 and prompts without noise: the variance of the mean of two is sd² / 2 = 1.
        let result = bootstrap_mean(&contrast(&[vec![0.0; 30], vec![2.0; 30]]), 0, 2000);
        assert!((result.standard_error - 1.0).abs() < 0.05, "{result:?}");
        assert_eq!(result.interval, Interval { low: 0.0, high: 2.0 });
    }

    #[test]
    fn intervals_cover_the_truth() {
        let mut random = SplitMix64::new(5);
        let covered = (0..200)
            .filter(|&seed| {
                let row: Vec<f64> = (0..60).map(|_| noise(&mut random)).collect();
                bootstrap_mean(&contrast(&[row]), seed, 400).interval.holds_zero()
            })
            .count();
        // 190 expected, standard deviation 3.1.
        assert!((178..=199).contains(&covered), "{covered} of 200");
    }
}
