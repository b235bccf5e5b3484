//! Which rows make up the batch of each step.

use crate::random::RandomStream;

/// The row indexes of every step: epochs one after the other, each in its own order, cut into batches without regard
/// to where an epoch ends. A pure function of its arguments, so that more steps continue the same sequence.
pub fn batches(rows: u64, size: u64, steps: u64, shuffle: bool, seed: u64) -> Vec<Vec<u64>> {
    let mut all = (0u64..).flat_map(|epoch| epoch_order(rows, shuffle, seed, epoch));
    (0..steps).map(|_| all.by_ref().take(size as usize).collect()).collect()
}

fn epoch_order(rows: u64, shuffle: bool, seed: u64, epoch: u64) -> Vec<u64> {
    assert!(rows > 0, "an epoch has rows");
    let mut order: Vec<u64> = (0..rows).collect();
    if shuffle {
        RandomStream::new("row order", seed, &[epoch]).shuffle(&mut order);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_holds_every_row_once() {
        let flat: Vec<u64> = batches(10, 4, 5, true, 3).concat();
        for epoch in flat.chunks(10) {
            let mut sorted = epoch.to_vec();
            sorted.sort();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(flat[..10], flat[10..]);
    }

    #[test]
    fn more_steps_continue_the_sequence() {
        assert_eq!(batches(10, 4, 9, true, 0)[..5], batches(10, 4, 5, true, 0));
    }

    #[test]
    fn without_shuffling_rows_stand_in_file_order() {
        assert_eq!(batches(3, 2, 3, false, 0), [[0, 1], [2, 0], [1, 2]]);
    }
}
