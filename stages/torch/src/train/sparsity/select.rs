//! Which entries a mask keeps: drop the least, grow the most promising.
//!
//! All entries of a pool compete with one another; ties go to the lower index. Scores are from 0 up.

use tch::Tensor;

use crate::changes::count;

/// The mask [n] after an update of one with these active entries: `keep` entries, of which k = min(⌊exchange·keep⌋, inactive
/// before) are the best by `grow` among those that were inactive, the rest the best by `drop` among the active.
pub fn update(active: &Tensor, drop: &Tensor, grow: &Tensor, keep: i64, exchange: f64) -> Tensor {
    let inactive = active.logical_not();
    let grown = ((exchange * keep as f64).floor() as i64).min(count(&inactive));
    top(drop, active, keep - grown).logical_or(&top(grow, &inactive, grown))
}

/// (1 − s)·N, the half rounded to even.
pub fn kept(sparsity: f64, entries: i64) -> i64 {
    ((1.0 - sparsity) * entries as f64).round_ties_even() as i64
}

/// The k eligible entries of the highest scores.
fn top(scores: &Tensor, eligible: &Tensor, k: i64) -> Tensor {
    if k == 0 {
        return eligible.zeros_like();
    }
    let scores = scores.where_self(eligible, &scores.full_like(-1));
    let (threshold, _) = scores.kthvalue(scores.numel() as i64 - k + 1, 0, false);
    let mut chosen = scores.gt_tensor(&threshold);
    let missing = k - count(&chosen);
    let equal = scores.eq_tensor(&threshold).nonzero().flatten(0, -1).narrow(0, 0, missing);
    chosen.index_fill_(0, &equal, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(entries: &[bool]) -> Tensor {
        Tensor::from_slice(entries)
    }

    fn updated(active: &[bool], drop: &[f32], grow: &[f32], keep: i64, exchange: f64) -> Vec<bool> {
        let mask = update(&mask(active), &Tensor::from_slice(drop), &Tensor::from_slice(grow), keep, exchange);
        Vec::try_from(mask).unwrap()
    }

    #[test]
    fn the_least_are_dropped_and_ties_go_to_the_lower_index() {
        let mask = updated(&[true; 5], &[1.0, 0.0, 2.0, 1.0, 1.0], &[9.0; 5], 3, 0.5);
        assert_eq!(mask, [true, false, true, true, false], "nothing was inactive, so nothing grows");
    }

    #[test]
    fn what_was_dropped_never_grows_in_the_same_update() {
        let active = [true, true, true, false, false];
        let mask = updated(&active, &[3.0, 2.0, 1.0, 9.0, 9.0], &[9.0, 9.0, 9.0, 0.0, 1.0], 3, 0.4);
        assert_eq!(mask, [true, true, false, false, true]);
    }

    #[test]
    fn entries_of_score_0_are_kept_before_inactive_ones() {
        assert_eq!(updated(&[false, true, true], &[5.0, 0.0, 0.0], &[0.0; 3], 2, 0.0), [false, true, true]);
    }

    #[test]
    fn halves_are_rounded_to_even() {
        assert_eq!([kept(0.5, 5), kept(0.5, 7), kept(0.9, 10), kept(0.0, 3)], [2, 4, 1, 3]);
    }
}
