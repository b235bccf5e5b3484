//! Compares an arm with its baseline, and decides within a family of such comparisons what may be called a difference.
//!
//! A difference is claimed where the 95% interval leaves out 0 *and* the bootstrap's p-value survives Holm's correction over
//! the family *and* there are at least [`FEWEST_PROMPTS`] prompts. The sign test is reported beside it and decides nothing:
//! it asks another question (on how many prompts, not by how much).

use crate::bootstrap::{BootstrapMean, Interval, LEVEL, bootstrap_mean};
use crate::contrast::{Contrast, Pairing};
use crate::holm::holm;
use crate::sign_test::{SignTest, sign_test};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// Below this many prompts resampling says too little for any claim.
pub const FEWEST_PROMPTS: usize = 10;

/// The chance of being noticed that defines the smallest detectable effect.
pub const POWER: f64 = 0.8;

/// One contrast, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Prompts that every run answered.
    pub n_prompts: usize,
    /// Prompts left out because some run lacks them.
    pub unmatched_prompts: usize,
    /// How runs were matched.
    pub pairing: Pairing,
    /// Each replicate's mean over prompts, by label: the points of a chart.
    pub replicates: Vec<(String, f64)>,
    /// Mean, standard error, interval and p-value over prompts and replicates.
    pub bootstrap: BootstrapMean,
    /// Signs of the prompts' means over replicates; none where the value of a prompt means nothing by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sign_test: Option<SignTest>,
}

impl Comparison {
    /// The interval; none of a single prompt, which is the same in every draw.
    pub fn spread(&self) -> Option<Interval> {
        (self.n_prompts > 1).then_some(self.bootstrap.interval)
    }
}

/// Measures a contrast with so many bootstrap draws from this seed.
pub fn compare(contrast: &Contrast, seed: u64, draws: usize) -> Comparison {
    let labels = contrast.labels().iter().cloned();
    Comparison {
        n_prompts: contrast.prompts().len(),
        unmatched_prompts: contrast.unmatched_prompts(),
        pairing: contrast.pairing(),
        replicates: labels.zip(contrast.replicate_means()).collect(),
        bootstrap: bootstrap_mean(contrast, seed, draws),
        sign_test: Some(sign_test(&contrast.prompt_means())),
    }
}

/// What may be said of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The arm is above its baseline.
    Higher,
    /// The arm is below its baseline.
    Lower,
    /// The interval holds 0.
    NotDistinguishable,
    /// The interval leaves out 0, but not so that it survives the correction over the family.
    NotAfterCorrection,
    /// Every prompt has a difference of exactly 0.
    Identical,
    /// Fewer than [`FEWEST_PROMPTS`] prompts.
    TooFewPrompts,
}

/// A comparison with its place in the family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The comparison itself.
    pub comparison: Comparison,
    /// What may be said of it.
    pub finding: Finding,
    /// How many comparisons the family has.
    pub family_size: usize,
    /// The bootstrap's p-value after Holm's correction over the family.
    pub p_holm: f64,
    /// The sign test's p-value after the same correction, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sign_p_holm: Option<f64>,
    /// The smallest true effect that such an experiment finds with probability [`POWER`], at the family's strictest level.
    pub smallest_detectable: f64,
}

/// Decides a family of comparisons, in the order given. Families do not influence each other.
pub fn judge_family(comparisons: &[Comparison]) -> Vec<Judged> {
    let p_holm = holm(&comparisons.iter().map(|comparison| comparison.bootstrap.p_value).collect::<Vec<_>>());
    let sign_p = |comparison: &Comparison| comparison.sign_test.as_ref().map(|signs| signs.p_value);
    let mut sign_p_holm = holm(&comparisons.iter().filter_map(sign_p).collect::<Vec<_>>()).into_iter();
    let judge = |(i, comparison): (usize, &Comparison)| Judged {
        comparison: comparison.clone(),
        finding: find(comparison, p_holm[i]),
        family_size: comparisons.len(),
        p_holm: p_holm[i],
        sign_p_holm: comparison.sign_test.as_ref().and_then(|_| sign_p_holm.next()),
        smallest_detectable: smallest_detectable(comparison.bootstrap.standard_error, comparisons.len()),
    };
    comparisons.iter().enumerate().map(judge).collect()
}

fn find(comparison: &Comparison, p_holm: f64) -> Finding {
    let bootstrap = &comparison.bootstrap;
    if bootstrap.mean == 0.0 && bootstrap.standard_error == 0.0 {
        Finding::Identical
    } else if comparison.n_prompts < FEWEST_PROMPTS {
        Finding::TooFewPrompts
    } else if bootstrap.interval.holds_zero() {
        Finding::NotDistinguishable
    } else if p_holm >= 1.0 - LEVEL {
        Finding::NotAfterCorrection
    } else if bootstrap.mean > 0.0 {
        Finding::Higher
    } else {
        Finding::Lower
    }
}

/// (z of the strictest two-sided level + z of the power) standard errors, by the normal approximation.
fn smallest_detectable(standard_error: f64, family_size: usize) -> f64 {
    let strictest = (1.0 - LEVEL) / family_size as f64;
    let normal = Normal::standard();
    (normal.inverse_cdf(1.0 - strictest / 2.0) + normal.inverse_cdf(POWER)) * standard_error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrast::Replicate;

    fn comparison(differences: &[f64]) -> Comparison {
        let replicate = |scores: &[f64]| {
            let scores = scores.iter().enumerate().map(|(i, &score)| (format!("{i:04}"), score)).collect();
            [Replicate { label: "0".into(), scores }]
        };
        let contrast = Contrast::between(&replicate(differences), &replicate(&vec![0.0; differences.len()])).unwrap();
        compare(&contrast, 0, 1000)
    }

    fn finding(differences: &[f64]) -> Finding {
        judge_family(&[comparison(differences)])[0].finding
    }

    fn alternating(above: f64, below: f64, n: usize) -> Vec<f64> {
        (0..n).map(|i| if i % 2 == 0 { above } else { below }).collect()
    }

    #[test]
    fn findings_follow_the_interval() {
        assert_eq!(finding(&alternating(2.0, 1.0, 40)), Finding::Higher);
        assert_eq!(finding(&alternating(-2.0, -1.0, 40)), Finding::Lower);
        assert_eq!(finding(&alternating(1.0, -1.0, 40)), Finding::NotDistinguishable);
        assert_eq!(finding(&[0.0; 40]), Finding::Identical);
        assert_eq!(finding(&[1.0; 9]), Finding::TooFewPrompts);
    }

    #[test]
    fn a_weak_difference_drowns_in_a_family() {
        let weak = comparison(&alternating(1.0, -0.4, 40));
        assert!(!weak.bootstrap.interval.holds_zero());
        assert_eq!(judge_family(std::slice::from_ref(&weak))[0].finding, Finding::Higher);
        let family = judge_family(&vec![weak; 20]);
        assert_eq!(family[0].finding, Finding::NotAfterCorrection);
        assert_eq!(family[0].family_size, 20);
    }

    #[test]
    fn the_smallest_detectable_effect_is_2_8_standard_errors_and_grows_with_the_family() {
        assert!((smallest_detectable(1.0, 1) - 2.8016).abs() < 1e-4);
        assert!((smallest_detectable(1.0, 5) - 3.4174).abs() < 1e-3);
    }

    #[test]
    fn an_empty_family_has_no_findings() {
        assert!(judge_family(&[]).is_empty());
    }
}
