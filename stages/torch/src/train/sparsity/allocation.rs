//! How many entries each tensor keeps.

use neftpipe_protocol::params::train::Allocation;

use super::select::kept;

/// The pools of tensors whose entries compete with one another, and how many of them each keeps: of tensors of these
/// shapes, with so many units (entries, or rows) in their masks.
pub fn pools(allocation: Allocation, sparsity: f64, shapes: &[[i64; 2]], units: &[i64]) -> Vec<(Vec<usize>, i64)> {
    match allocation {
        Allocation::Uniform => (0..).zip(units).map(|(at, &size)| (vec![at], kept(sparsity, size))).collect(),
        Allocation::Global => vec![((0..shapes.len()).collect(), kept(sparsity, units.iter().sum()))],
        Allocation::Erk => {
            let densities = erk(1.0 - sparsity, shapes);
            let keeps = units.iter().zip(densities).map(|(&size, density)| kept(1.0 - density, size));
            keeps.enumerate().map(|(at, keep)| (vec![at], keep)).collect()
        }
    }
}

/// Densities in proportion to (rows + columns)/(rows·columns), at most 1, whose mean over all entries is `density`.
fn erk(density: f64, shapes: &[[i64; 2]]) -> Vec<f64> {
    let size = |[rows, columns]: &[i64; 2]| (rows * columns) as f64;
    let raw = |shape: &[i64; 2]| (shape[0] + shape[1]) as f64 / size(shape);
    let all: f64 = shapes.iter().map(size).sum();
    let mut full = vec![false; shapes.len()];
    loop {
        let (mut room, mut weight) = (density * all, 0.0);
        for (shape, &full) in shapes.iter().zip(&full) {
            if full {
                room -= size(shape);
            } else {
                weight += raw(shape) * size(shape);
            }
        }
        let factor = if weight > 0.0 { room / weight } else { 0.0 };
        let over: Vec<usize> = (0..shapes.len()).filter(|&at| !full[at] && factor * raw(&shapes[at]) > 1.0).collect();
        if over.is_empty() {
            return shapes.iter().zip(full).map(|(shape, full)| if full { 1.0 } else { factor * raw(shape) }).collect();
        }
        over.into_iter().for_each(|at| full[at] = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [[i64; 2]; 3] = [[100, 100], [10, 10], [400, 100]];

    #[test]
    fn all_allocations_keep_as_much_in_sum() {
        for allocation in [Allocation::Uniform, Allocation::Erk, Allocation::Global] {
            let kept: i64 = pools(allocation, 0.8, &SHAPES, &[10_000, 100, 40_000]).iter().map(|(_, keep)| keep).sum();
            assert!((kept - 10_020).abs() <= 1, "{allocation:?}: {kept}");
        }
    }

    #[test]
    fn erk_leaves_small_tensors_denser_but_never_more_than_dense() {
        let densities = erk(0.2, &SHAPES);
        assert_eq!(densities[1], 1.0);
        assert!((densities[0] / densities[2] - 0.02 / 0.0125).abs() < 1e-9, "{densities:?}");
    }
}
