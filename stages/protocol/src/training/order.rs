//! Which rows make up the batch of each step.

use crate::random::RandomStream;

/// The row indexes of every step: epochs one after the other, each in its own order, cut into batches without regard
/// to where an epoch ends. A pure function of its arguments, so that more steps continue the same sequence.
pub fn batches(rows: u64, size: u64, steps: u64, shuffle: bool, seed: u64) -> Vec<Vec<u64>> {
    let mut all = (0u64..).flat_map(|epoch| epoch_order(rows, shuffle, seed, epoch));
    (0..steps).map(|_| all.by_ref().take(size as usize).collect()).collect()
}

/// Batches of rows of like length. Each epoch's order is cut into stretches of [`GROUP_BATCHES`] batches; the rows of a
/// stretch are sorted by length, and its batches drawn in a new order where rows are shuffled. A batch across the end of
/// an epoch holds what is left. Like [`batches`] a pure function, of which more steps continue the same sequence.
pub fn batches_by_length(lengths: &[u64], size: u64, steps: u64, shuffle: bool, seed: u64) -> Vec<Vec<u64>> {
    let rows = lengths.len() as u64;
    let mut all = (0u64..).flat_map(|epoch| {
        let order = epoch_order(rows, shuffle, seed, epoch);
        // Rows that complete the batch which the last epoch began.
        let before = (size - epoch * rows % size) % size;
        group(order, before.min(rows) as usize, lengths, size as usize, shuffle.then_some((seed, epoch)))
    });
    (0..steps).map(|_| all.by_ref().take(size as usize).collect()).collect()
}

/// Batches that are sorted together: enough for like lengths, few enough that rows still mix.
const GROUP_BATCHES: usize = 50;

fn group(order: Vec<u64>, before: usize, lengths: &[u64], size: usize, shuffle: Option<(u64, u64)>) -> Vec<u64> {
    let mut grouped = order[..before].to_vec();
    for (index, stretch) in order[before..].chunks(size * GROUP_BATCHES).enumerate() {
        let mut stretch = stretch.to_vec();
        stretch.sort_by_key(|&row| lengths[row as usize]);
        let whole = stretch.len() / size * size;
        let mut batches: Vec<&[u64]> = stretch[..whole].chunks(size).collect();
        if let Some((seed, epoch)) = shuffle {
            RandomStream::new("length groups", seed, &[epoch, index as u64]).shuffle(&mut batches);
        }
        grouped.extend(batches.concat());
        grouped.extend(&stretch[whole..]);
    }
    grouped
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
    fn batches_by_length_hold_each_row_once_an_epoch_and_little_padding() {
        let lengths: Vec<u64> = (0..103).map(|row| 1 + row * 37 % 101).collect();
        let padding = |batches: &[Vec<u64>]| -> u64 {
            let of = |batch: &Vec<u64>| -> u64 {
                let longest = batch.iter().map(|&row| lengths[row as usize]).max().unwrap();
                batch.iter().map(|&row| longest - lengths[row as usize]).sum()
            };
            batches.iter().map(of).sum()
        };
        let grouped = batches_by_length(&lengths, 4, 103, true, 3);
        for epoch in grouped.concat().chunks(103) {
            let mut sorted = epoch.to_vec();
            sorted.sort();
            assert_eq!(sorted, (0..103).collect::<Vec<_>>());
        }
        assert!(padding(&grouped) * 8 < padding(&batches(103, 4, 103, true, 3)));
        assert_eq!(grouped[..30], batches_by_length(&lengths, 4, 30, true, 3), "more steps continue");
        let long: Vec<bool> = grouped[..26].iter().map(|batch| lengths[batch[0] as usize] > 50).collect();
        assert!(!long.is_sorted(), "short and long batches mix");
        assert_eq!(batches_by_length(&[9, 1, 8, 2], 2, 2, false, 0), [[1, 3], [2, 0]]);
    }

    #[test]
    fn a_batch_larger_than_an_epoch_takes_from_several() {
        let batches = batches_by_length(&[3, 1, 2], 5, 3, true, 1).concat();
        for epoch in batches.chunks(3) {
            let mut sorted = epoch.to_vec();
            sorted.sort();
            assert_eq!(sorted, [0, 1, 2]);
        }
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
