//! How far two judges agree on the same pairs: the share of equal verdicts, and Cohen's kappa, which takes off what chance
//! alone would give.
//!
//! Source: J. Cohen, "A Coefficient of Agreement for Nominal Scales", 1960, over the verdicts loss, draw and win.

use crate::win_rate::win_share;
use serde::{Deserialize, Serialize};

/// The agreement of two judges.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Pairs on which both judges have a verdict.
    pub n: usize,
    /// Share of them with equal verdicts, 0 to 1.
    pub rate: f64,
    /// (rate − chance) / (1 − chance): 1 is perfect, 0 is what chance gives. `None` where both judges always say the same
    /// one thing, which leaves chance nothing to explain.
    pub kappa: Option<f64>,
}

/// Compares two judges pair by pair; `None` without a pair that both have judged.
///
/// Preferences count as a loss below 1.5, a draw at 1.5 (or 0) and a win above; what cannot be read is left out.
///
/// # Panics
/// Where the lists differ in length.
pub fn agreement(first: &[Option<f64>], second: &[Option<f64>]) -> Option<Agreement> {
    assert_eq!(first.len(), second.len(), "agreement needs the two verdicts of each pair");
    let verdicts = |(a, b): (&Option<f64>, &Option<f64>)| Some((verdict((*a)?)?, verdict((*b)?)?));
    let both: Vec<(usize, usize)> = first.iter().zip(second).filter_map(verdicts).collect();
    if both.is_empty() {
        return None;
    }
    let n = both.len() as f64;
    let rate = both.iter().filter(|(a, b)| a == b).count() as f64 / n;
    let share =
        |of: fn(&(usize, usize)) -> usize, verdict| both.iter().filter(|pair| of(pair) == verdict).count() as f64 / n;
    let chance: f64 = (0..3).map(|verdict| share(|pair| pair.0, verdict) * share(|pair| pair.1, verdict)).sum();
    let kappa = (chance < 1.0).then(|| (rate - chance) / (1.0 - chance));
    Some(Agreement { n: both.len(), rate, kappa })
}

/// 0 for a loss, 1 for a draw, 2 for a win.
fn verdict(preference: f64) -> Option<usize> {
    let share = win_share(preference)?;
    Some(usize::from(share >= 0.5) + usize::from(share > 0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_pairs_do_not_count() {
        assert_eq!(agreement(&[None, Some(1.0)], &[Some(1.0), Some(7.0)]), None);
    }

    #[test]
    fn judges_that_never_differ() {
        let same = agreement(&[Some(1.2), Some(1.9), Some(0.0)], &[Some(1.0), Some(2.0), Some(1.5)]).unwrap();
        assert_eq!((same.n, same.rate, same.kappa), (3, 1.0, Some(1.0)));
        assert_eq!(agreement(&[Some(2.0)], &[Some(2.0)]).unwrap().kappa, None);
    }
}
