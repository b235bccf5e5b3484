//! Dropout before the adapters: y = W x + s·B A (mask∘x)/(1 − p).
//!
//! The mask of a row is a pure function of (seed, optimizer step, the row's place in the step, the projection): it does
//! not depend on how the step is cut into micro-batches, and a resumed or recomputed step draws what the first one drew.
//! It knows nothing of how an adapter computes; evaluations and probes never ask for it.

use neftpipe_protocol::random::RandomStream;
use tch::{Device, Kind, Tensor};

use crate::device::upload;
use crate::model::{AdapterInput, Place};

/// The dropout of one optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepDropout {
    /// Probability p that an entry is dropped, above 0 and below 1.
    pub rate: f64,
    /// Seed of the run.
    pub seed: u64,
    /// The optimizer step, from 0.
    pub step: u64,
}

/// The dropout of the rows that go through the model together: place in the step and tokens of each.
pub struct PassDropout {
    /// That of the step.
    pub step: StepDropout,
    /// The rows, in the order in which they lie.
    pub rows: Vec<(u64, usize)>,
}

impl StepDropout {
    /// Appends the factors of a row before a projection [row_tokens, width]: 0, or 1/(1 − p).
    fn draw(&self, row: u64, Place { layer, projection }: Place, values: usize, out: &mut Vec<f32>) {
        let start = out.len();
        out.resize(start + values, 0.0);
        let at = [self.step, row, layer as u64, projection as u64];
        RandomStream::new("lora dropout", self.seed, &at).fill_kept(&mut out[start..], self.rate);
    }
}

impl PassDropout {
    /// Factors of all rows [N, width], in f32.
    fn factors(&self, place: Place, width: i64, kind: Kind, device: Device) -> Tensor {
        let mut values = Vec::new();
        for &(row, tokens) in &self.rows {
            self.step.draw(row, place, tokens * width as usize, &mut values);
        }
        upload(&values, device).view([-1, width]).to_kind(kind)
    }
}

impl AdapterInput for PassDropout {
    fn of(&self, x: &Tensor, place: Place) -> Tensor {
        x * self.factors(place, x.size()[1], x.kind(), x.device())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: i64 = 256;
    const PLACE: Place = Place { layer: 1, projection: 2 };

    fn factors(rows: &[(u64, usize)], step: u64, place: Place) -> Vec<f32> {
        let dropout = PassDropout { step: StepDropout { rate: 0.25, seed: 3, step }, rows: rows.to_vec() };
        Vec::try_from(dropout.factors(place, WIDTH, Kind::Float, Device::Cpu).flatten(0, -1)).unwrap()
    }

    #[test]
    fn the_rate_is_dropped_and_the_rest_makes_up_for_it() {
        let values = factors(&[(0, 400)], 0, PLACE);
        assert!(values.iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6));
        let dropped = values.iter().filter(|&&v| v == 0.0).count() as f64 / values.len() as f64;
        // Five standard deviations of a share of 102,400 draws.
        assert!((dropped - 0.25).abs() < 5.0 * (0.25f64 * 0.75 / 102_400.0).sqrt(), "{dropped}");
    }

    #[test]
    fn a_rows_mask_is_its_own_wherever_it_lies() {
        let (first, second) = (factors(&[(0, 3)], 5, PLACE), factors(&[(1, 7)], 5, PLACE));
        assert_eq!(factors(&[(0, 3), (1, 7)], 5, PLACE), [first.clone(), second.clone()].concat());
        assert_eq!(factors(&[(1, 7), (0, 3)], 5, PLACE), [second, first.clone()].concat());
        let others = [
            factors(&[(1, 3)], 5, PLACE),
            factors(&[(0, 3)], 6, PLACE),
            factors(&[(0, 3)], 5, Place { layer: 0, ..PLACE }),
            factors(&[(0, 3)], 5, Place { projection: 3, ..PLACE }),
        ];
        assert!(others.iter().all(|other| *other != first));
    }
}
