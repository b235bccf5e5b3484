//! Keys and values of what was already read, so that decoding reads each token once.
//!
//! Axes: B rows, T tokens, H key-value heads, D head dim. Row i holds its `lengths[i]` tokens from the left; what lies
//! to the right of them is masked.

use tch::{Device, Kind, Tensor};

use super::LlamaConfig;

/// Keys and values of so many rows, allocated once.
pub struct Cache {
    capacity_tokens: i64,
    lengths: Vec<i64>,
    layers: Vec<(Tensor, Tensor)>,
}

impl Cache {
    /// Room for `rows` rows of `capacity_tokens` tokens each.
    pub fn new(config: &LlamaConfig, rows: i64, capacity_tokens: i64, kind: Kind, device: Device) -> Self {
        let shape = [rows, capacity_tokens, config.kv_heads, config.head_dim];
        // Zeros, not garbage: a masked NaN is still a NaN.
        let room = || Tensor::zeros(shape, (kind, device)); // [B, T, H, D]
        let layers = (0..config.layers).map(|_| (room(), room())).collect();
        Self { capacity_tokens, lengths: vec![0; rows as usize], layers }
    }

    /// Tokens that each row holds.
    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// Keeps these rows, in this order, and drops the others.
    pub fn keep(&mut self, rows: &[i64]) {
        let device = self.layers[0].0.device();
        let index = Tensor::from_slice(rows).to_device(device);
        for (keys, values) in &mut self.layers {
            *keys = keys.index_select(0, &index);
            *values = values.index_select(0, &index);
        }
        self.lengths = rows.iter().map(|&row| self.lengths[row as usize]).collect();
    }

    /// Puts whole rows into an empty cache: k and v are [N, H, D] of the rows one after the other.
    pub(super) fn fill(&self, layer: usize, lengths: &[i64], k: &Tensor, v: &Tensor) {
        let (keys, values) = &self.layers[layer];
        let mut start = 0;
        for (row, &length) in lengths.iter().enumerate() {
            for (room, new) in [(keys, k), (values, v)] {
                room.get(row as i64).narrow(0, 0, length).copy_(&new.narrow(0, start, length));
            }
            start += length;
        }
    }

    /// Puts one more token to each row, k and v [B, H, D], and returns keys and values [B, H, T, D] up to the longest row.
    pub(super) fn append(&self, layer: usize, places: &Tensor, k: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
        let (keys, values) = &self.layers[layer];
        let rows = Tensor::arange(self.lengths.len() as i64, (Kind::Int64, k.device()));
        let tokens = self.longest() + 1;
        let put = |room: &Tensor, new: &Tensor| {
            let _ = room.shallow_clone().index_put_(&[Some(&rows), Some(places)], new, false);
            room.narrow(1, 0, tokens).transpose(1, 2) // [B, H, T, D]
        };
        (put(keys, k), put(values, v))
    }

    /// Where the next token of each row goes [B].
    pub(super) fn next_places(&self, device: Device) -> Tensor {
        Tensor::from_slice(&self.lengths).to_device(device)
    }

    /// Whether query i may look at key j, once the next token is in [B, 1, 1, T].
    pub(super) fn mask(&self, places: &Tensor) -> Tensor {
        let tokens = Tensor::arange(self.longest() + 1, (Kind::Int64, places.device()));
        tokens.unsqueeze(0).le_tensor(&places.unsqueeze(1)).unsqueeze(1).unsqueeze(1)
    }

    pub(super) fn set_lengths(&mut self, lengths: &[i64]) {
        assert_eq!(lengths.len(), self.lengths.len(), "the cache was made for these rows");
        self.lengths = lengths.to_vec();
        self.check_room();
    }

    pub(super) fn grow(&mut self) {
        self.lengths.iter_mut().for_each(|length| *length += 1);
    }

    pub(super) fn check_room(&self) {
        assert!(self.longest() <= self.capacity_tokens, "the cache has room for {} tokens a row", self.capacity_tokens);
    }

    fn longest(&self) -> i64 {
        self.lengths.iter().copied().max().unwrap_or(0)
    }
}
