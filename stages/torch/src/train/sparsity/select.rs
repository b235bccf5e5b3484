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

/// The 2:4 mask [n] after an update: two of every four neighbours. Of a full mask each group keeps its best two by `drop`.
/// Later k = min(⌊exchange·n/2⌋, groups) groups, those whose best inactive entry scores highest by `grow`, exchange their
/// least active entry for it.
pub fn two_of_four(active: &Tensor, drop: &Tensor, grow: &Tensor, exchange: f64) -> Tensor {
    let groups = |it: &Tensor| it.view([-1, 4]); // [G, 4]
    let active = groups(active);
    let ranked = |scores: &Tensor, eligible: &Tensor| {
        groups(scores).where_self(eligible, &groups(scores).full_like(-1)).sort_stable(true, 1, true)
    };
    let (_, by_drop) = ranked(drop, &active);
    let chosen = |places: &Tensor| active.zeros_like().scatter_value(1, places, 1);
    let mask = chosen(&by_drop.narrow(1, 0, 2));
    if count(&active) == active.numel() as i64 {
        return mask.flatten(0, -1);
    }
    let (best, by_grow) = ranked(grow, &active.logical_not());
    let exchanged = (exchange * count(&active) as f64).floor() as i64;
    let best = best.select(1, 0); // [G]
    let here = top(&best, &best.ge(0.0), exchanged.min(best.numel() as i64)).unsqueeze(1); // [G, 1]
    let dropped = chosen(&by_drop.narrow(1, 1, 1)).logical_and(&here);
    let grown = chosen(&by_grow.narrow(1, 0, 1)).logical_and(&here);
    mask.logical_and(&dropped.logical_not()).logical_or(&grown).flatten(0, -1)
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
    fn two_of_four_are_kept_and_the_best_inactive_are_exchanged_for_the_least_active() {
        let two_of_four = |active: [bool; 8], drop: [f32; 8], grow: [f32; 8], exchange: f64| -> Vec<bool> {
            let scores = |values: [f32; 8]| Tensor::from_slice(&values);
            Vec::try_from(two_of_four(&mask(&active), &scores(drop), &scores(grow), exchange)).unwrap()
        };
        let drop = [1.0, 3.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0];
        let first = two_of_four([true; 8], drop, [9.0; 8], 0.9);
        assert_eq!(first, [false, true, true, false, true, true, false, false], "ties go to the lower index");
        let first: [bool; 8] = first.try_into().unwrap();
        let grow = [1.0, 9.0, 9.0, 2.0, 9.0, 9.0, 5.0, 4.0];
        assert_eq!(two_of_four(first, drop, grow, 0.0), first);
        let next = two_of_four(first, drop, grow, 0.3);
        assert_eq!(next, [false, true, true, false, true, false, true, false], "one of four, in the better group");
        let all = two_of_four(first, drop, grow, 0.9);
        assert_eq!(all, [false, true, false, true, true, false, true, false], "one a group at most");
    }

    #[test]
    fn halves_are_rounded_to_even() {
        assert_eq!([kept(0.5, 5), kept(0.5, 7), kept(0.9, 10), kept(0.0, 3)], [2, 4, 1, 3]);
    }
}
