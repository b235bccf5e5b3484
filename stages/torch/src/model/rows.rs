//! Rows of tokens of different lengths, one after the other without padding.

use tch::{Device, Tensor};

use crate::device::upload;

/// So many rows, flat: their ids and each token's position in its row.
pub struct Rows {
    lengths: Vec<i64>,
    ids: Tensor,
    positions: Tensor,
}

impl Rows {
    /// Lays the rows out on a device. Empty rows are the caller's mistake.
    pub fn new<'a>(rows: impl IntoIterator<Item = &'a [i32]>, device: Device) -> Self {
        let (mut lengths, mut ids, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            assert!(!row.is_empty(), "a row has tokens");
            lengths.push(row.len() as i64);
            ids.extend(row.iter().map(|&id| i64::from(id)));
            positions.extend(0..row.len() as i64);
        }
        let tensor = |values: &[i64]| upload(values, device);
        Self { lengths, ids: tensor(&ids), positions: tensor(&positions) }
    }

    /// Tokens of each row.
    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// Tokens of all rows, N.
    pub fn tokens(&self) -> i64 {
        self.lengths.iter().sum()
    }

    /// Ids of all tokens [N].
    pub fn ids(&self) -> &Tensor {
        &self.ids
    }

    /// Positions of all tokens in their rows [N].
    pub fn positions(&self) -> &Tensor {
        &self.positions
    }

    /// Places of each row's last token among the N [B].
    pub fn last_places(&self) -> Tensor {
        let ends: Vec<i64> = self
            .lengths
            .iter()
            .scan(0, |end, length| {
                *end += length;
                Some(*end - 1)
            })
            .collect();
        upload(&ends, self.ids.device())
    }
}
