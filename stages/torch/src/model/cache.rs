//! Keys and values of what was already read, so that decoding reads each token once.
//!
//! The memory is allocated once and seen as so many rows of so many tokens; both can be chosen anew while rows are at
//! work. Axes: B rows at work, T tokens, K key-value heads, D head dim. The rows at work are the first B. Row i holds its
//! `lengths[i]` tokens from the left; what lies to the right of them is masked.

use tch::{Device, Kind, Tensor};

use super::LlamaConfig;

/// Keys and values of the rows at work.
pub struct Cache {
    tokens: i64,
    capacity_tokens: i64,
    lengths: Vec<i64>,
    /// Keys and values of each layer, [tokens, K, D].
    layers: Vec<(Tensor, Tensor)>,
}

impl Cache {
    /// Room for `tokens` tokens in all, in rows of `capacity_tokens` tokens.
    pub(super) fn new(config: &LlamaConfig, tokens: usize, capacity_tokens: usize, kind: Kind, device: Device) -> Self {
        assert!(0 < capacity_tokens && capacity_tokens <= tokens, "a cache has room for a row");
        // Zeros, not garbage: a masked NaN is still a NaN.
        let room = || Tensor::zeros([tokens as i64, config.kv_heads, config.head_dim], (kind, device));
        let layers = (0..config.layers).map(|_| (room(), room())).collect();
        Self { tokens: tokens as i64, capacity_tokens: capacity_tokens as i64, lengths: Vec::new(), layers }
    }

    /// Rows that it has room for.
    pub fn capacity_rows(&self) -> usize {
        self.rows_of(self.capacity_tokens as usize)
    }

    /// Rows that it would have room for if each had so many tokens.
    pub fn rows_of(&self, capacity_tokens: usize) -> usize {
        self.tokens as usize / capacity_tokens.max(1)
    }

    /// Tokens that each row at work holds.
    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// Room of each row.
    pub(super) fn capacity_tokens(&self) -> usize {
        self.capacity_tokens as usize
    }

    /// Keys and values of each layer, [tokens, K, D].
    pub(super) fn layers(&self) -> &[(Tensor, Tensor)] {
        &self.layers
    }

    /// Takes a row out; the last row moves into its place.
    pub fn swap_remove(&mut self, row: usize) {
        let last = self.lengths.len() - 1;
        if row < last {
            let length = self.lengths[last];
            let part = |room: &Tensor, row: usize| room.narrow(0, row as i64 * self.capacity_tokens, length);
            for room in self.layers.iter().flat_map(|(keys, values)| [keys, values]) {
                part(room, row).copy_(&part(room, last));
            }
        }
        self.lengths.swap_remove(row);
    }

    /// Gives every row room for so many tokens, which changes how many rows there can be. Rows at work move.
    pub fn reshape(&mut self, capacity_tokens: usize) {
        assert!(self.longest() <= capacity_tokens as i64, "rows at work keep their tokens");
        assert!(self.lengths.len() <= self.rows_of(capacity_tokens), "rows at work keep their place");
        let (old, new) = (self.capacity_tokens, capacity_tokens as i64);
        for room in self.layers.iter().flat_map(|(keys, values)| [keys, values]) {
            let place = |row: usize, capacity: i64| room.narrow(0, row as i64 * capacity, self.lengths[row]);
            let rows: Vec<Tensor> = (0..self.lengths.len()).map(|row| place(row, old).copy()).collect();
            rows.iter().enumerate().for_each(|(row, kept)| place(row, new).copy_(kept));
        }
        self.capacity_tokens = new;
    }

    /// Adds rows of these lengths after those at work; [`Self::fill`] then puts their tokens.
    pub(super) fn push_rows(&mut self, lengths: &[i64]) {
        self.lengths.extend(lengths);
        assert!(self.lengths.len() <= self.capacity_rows(), "the cache has room for {} rows", self.capacity_rows());
        self.check_room();
    }

    /// Puts whole rows into the last places: k and v are [N, K, D] of the rows one after the other.
    pub(super) fn fill(&self, layer: usize, lengths: &[i64], k: &Tensor, v: &Tensor) {
        let (keys, values) = &self.layers[layer];
        let mut start = 0;
        for (row, &length) in (self.lengths.len() - lengths.len()..).zip(lengths) {
            for (room, new) in [(keys, k), (values, v)] {
                let place = room.narrow(0, row as i64 * self.capacity_tokens, length);
                place.shallow_clone().copy_(&new.narrow(0, start, length));
            }
            start += length;
        }
    }

    /// Puts one more token to each row, k and v [B, K, D], and returns keys and values [B, K, T, D] up to the longest row.
    pub(super) fn append(&self, layer: usize, places: &Tensor, k: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
        let (keys, values) = &self.layers[layer];
        let rows = self.lengths.len() as i64;
        let starts = Tensor::arange(rows, (Kind::Int64, k.device())) * self.capacity_tokens;
        let places = starts + places; // [B]
        let tokens = self.longest() + 1;
        let put = |room: &Tensor, new: &Tensor| {
            let _ = room.shallow_clone().index_copy_(0, &places, new);
            let shape = [rows, self.capacity_tokens, new.size()[1], new.size()[2]];
            room.narrow(0, 0, rows * self.capacity_tokens).view(shape).narrow(1, 0, tokens).transpose(1, 2)
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

    pub(super) fn grow(&mut self) {
        self.lengths.iter_mut().for_each(|length| *length += 1);
        self.check_room();
    }

    fn check_room(&self) {
        assert!(self.longest() <= self.capacity_tokens, "the cache has room for {} tokens a row", self.capacity_tokens);
    }

    fn longest(&self) -> i64 {
        self.lengths.iter().copied().max().unwrap_or(0)
    }
}
