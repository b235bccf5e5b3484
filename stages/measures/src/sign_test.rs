//! The exact two-sided sign test: on how many prompts one arm is ahead, whatever the margin.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};

/// Counts of prompts by the sign of their difference, and how surprising they are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignTest {
    /// Prompts on which the arm is ahead.
    pub ahead: usize,
    /// Prompts on which it is behind.
    pub behind: usize,
    /// Prompts without a difference; they do not count.
    pub ties: usize,
    /// Probability of a split at least as uneven if both signs were equally likely; 1 where all tie.
    pub p_value: f64,
}

/// Tests the signs of these differences.
pub fn sign_test(differences: &[f64]) -> SignTest {
    let ahead = differences.iter().filter(|&&difference| difference > 0.0).count();
    let behind = differences.iter().filter(|&&difference| difference < 0.0).count();
    SignTest { ahead, behind, ties: differences.len() - ahead - behind, p_value: two_sided_p(ahead, behind) }
}

fn two_sided_p(ahead: usize, behind: usize) -> f64 {
    let binomial = Binomial::new(0.5, (ahead + behind) as u64).expect("one half is a probability");
    (2.0 * binomial.cdf(ahead.min(behind) as u64)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_of_five() {
        let test = sign_test(&[0.1, 2.0, 3.0, 0.5, 1.0, 0.0]);
        assert_eq!((test.ahead, test.behind, test.ties), (5, 0, 1));
        assert!((test.p_value - 0.0625).abs() < 1e-12);
    }

    #[test]
    fn nothing_but_ties_surprises_nobody() {
        assert_eq!(sign_test(&[0.0, 0.0]).p_value, 1.0);
        assert_eq!(sign_test(&[]).p_value, 1.0);
    }
}
