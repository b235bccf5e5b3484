//! Keys and values of what was already read, so that decoding reads each token once.
//!
//! The memory is allocated once and seen as so many rows of so many tokens; both can be chosen anew while rows are at
//! work. Axes: B rows at work, T tokens, K key-value heads, D head dim. The rows at work are the first B, and a row lies
//! head by head: attention reads one stream of memory. Row i holds its `lengths[i]` tokens from the left; what lies to the
//! right of them is masked.

use tch::{Device, Kind, Tensor};

use super::LlamaConfig;

/// Keys and values of the rows at work.
pub struct Cache {
    tokens: i64,
    capacity_tokens: i64,
    lengths: Vec<i64>,
    /// K and D.
    heads: [i64; 2],
    /// Keys and values of each layer, [tokens, K·D]: a row takes `capacity_tokens` of them, as [K, T, D].
    layers: Vec<(Tensor, Tensor)>,
}

/// What rows begin with, read once for all of them.
pub struct Prefix(pub(super) Cache);

impl Prefix {
    /// Tokens that it holds.
    pub fn tokens(&self) -> i64 {
        self.0.lengths[0]
    }

    /// Its keys and values [K, T, D].
    pub(super) fn layer(&self, layer: usize) -> [Tensor; 2] {
        let (keys, values) = &self.0.layers[layer];
        [keys, values].map(|room| self.0.row(room, 0))
    }
}

impl Cache {
    /// Room for `tokens` tokens in all, in rows of `capacity_tokens` tokens.
    pub(super) fn new(config: &LlamaConfig, tokens: usize, capacity_tokens: usize, kind: Kind, device: Device) -> Self {
        assert!(0 < capacity_tokens && capacity_tokens <= tokens, "a cache has room for a row");
        // Zeros, not garbage: see `clear`.
        let heads = [config.kv_heads, config.head_dim];
        let room = || Tensor::zeros([tokens as i64, heads[0] * heads[1]], (kind, device));
        let layers = (0..config.layers).map(|_| (room(), room())).collect();
        Self { tokens: tokens as i64, capacity_tokens: capacity_tokens as i64, lengths: Vec::new(), heads, layers }
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

    /// Keys and values of each layer: [K, T, D] of one row after the other, T the room of each.
    pub(super) fn layers(&self) -> &[(Tensor, Tensor)] {
        &self.layers
    }

    /// Takes a row out; the last row moves into its place.
    pub fn swap_remove(&mut self, row: usize) {
        let last = self.lengths.len() - 1;
        if row < last {
            let held = self.lengths[last];
            for room in self.rooms() {
                let [to, from] = [row, last].map(|row| self.row(room, row));
                to.narrow(1, 0, held).copy_(&from.narrow(1, 0, held));
                clear(&to, held);
            }
        }
        self.lengths.swap_remove(row);
    }

    /// Gives every row room for so many tokens, which changes how many rows there can be. Rows at work move.
    pub fn reshape(&mut self, capacity_tokens: usize) {
        assert!(self.longest() <= capacity_tokens as i64, "rows at work keep their tokens");
        assert!(self.lengths.len() <= self.rows_of(capacity_tokens), "rows at work keep their place");
        let (old, new) = (self.capacity_tokens, capacity_tokens as i64);
        for room in self.rooms() {
            let place =
                |row, capacity| self.rows(room, row, 1, capacity).squeeze_dim(0).narrow(1, 0, self.lengths[row]);
            let kept: Vec<Tensor> = (0..self.lengths.len()).map(|row| place(row, old).copy()).collect();
            let _ = room.shallow_clone().zero_();
            kept.iter().enumerate().for_each(|(row, kept)| place(row, new).copy_(kept));
        }
        self.capacity_tokens = new;
    }

    fn rooms(&self) -> impl Iterator<Item = &Tensor> {
        self.layers.iter().flat_map(|(keys, values)| [keys, values])
    }

    /// So many rows from `first` on, [rows, K, T, D], if each has room for T tokens.
    fn rows(&self, room: &Tensor, first: usize, rows: i64, capacity: i64) -> Tensor {
        let [heads, dim] = self.heads;
        room.narrow(0, first as i64 * capacity, rows * capacity).view([rows, heads, capacity, dim])
    }

    /// One of them, [K, T, D].
    fn row(&self, room: &Tensor, row: usize) -> Tensor {
        self.rows(room, row, 1, self.capacity_tokens).squeeze_dim(0)
    }

    /// Adds rows of these lengths, each after what all begin with, behind those at work; [`Self::fill`] then puts their tokens.
    pub(super) fn push_rows(&mut self, lengths: &[i64], prefix: Option<&Prefix>) {
        let before = prefix.map_or(0, Prefix::tokens);
        self.lengths.extend(lengths.iter().map(|length| before + length));
        assert!(self.lengths.len() <= self.capacity_rows(), "the cache has room for {} rows", self.capacity_rows());
        self.check_room();
    }

    /// Puts rows into the last places: k and v are [N, K, D] of what each has after the prefix, one after the other.
    pub(super) fn fill(&self, layer: usize, lengths: &[i64], prefix: Option<&Prefix>, [k, v]: [&Tensor; 2]) {
        let (keys, values) = &self.layers[layer];
        let before = prefix.map(|prefix| prefix.layer(layer));
        let mut start = 0;
        for (row, &length) in (self.lengths.len() - lengths.len()..).zip(lengths) {
            for (at, (room, new)) in [(keys, k), (values, v)].into_iter().enumerate() {
                let (row, mut place) = (self.row(room, row), 0);
                if let Some(before) = &before {
                    place = before[at].size()[1];
                    row.narrow(1, 0, place).copy_(&before[at]);
                }
                row.narrow(1, place, length).copy_(&new.narrow(0, start, length).transpose(0, 1));
                clear(&row, place + length);
            }
            start += length;
        }
    }

    /// Puts one more token to each row, k and v [B, K, D], and returns keys and values [B, K, T, D] up to the longest row.
    pub(super) fn append(&self, layer: usize, places: &Tensor, k: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
        let (keys, values) = &self.layers[layer];
        let (rows, [heads, dim]) = (self.lengths.len() as i64, self.heads);
        let starts = Tensor::arange(rows * heads, (Kind::Int64, k.device())) * self.capacity_tokens;
        let places = (starts.view([rows, heads]) + places.unsqueeze(1)).view(-1); // [B·K]
        let put = |room: &Tensor, new: &Tensor| {
            let _ = room.view([-1, dim]).index_copy_(0, &places, &new.reshape([-1, dim]));
            self.rows(room, 0, rows, self.capacity_tokens).narrow(2, 0, self.longest() + 1)
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

/// Zeros a row [K, T, D] from this token on: what is masked counts nothing, but what is no number stays none.
fn clear(row: &Tensor, first: i64) {
    let _ = row.narrow(1, first, row.size()[1] - first).zero_();
}
