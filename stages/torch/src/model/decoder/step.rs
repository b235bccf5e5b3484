//! A step of decoding, all blocks of it, by a team of threads on slices.
//!
//! Axes: B rows, H query heads, K key-value heads, G = H/K, D head dim, T tokens of one row. Boards are row by row.

use tch::{Device, Kind, Tensor};

use super::board::Board;
use super::kernel::{Instructions, Matrix};
use super::team::{Member, Team};
use crate::model::llama::{Plain, PlainBlock};
use crate::model::{Cache, Llama, LlamaConfig};

/// Columns of a product are dealt out in blocks of so many: a cache line of what is written belongs to one thread.
const GRAIN: usize = 16;

/// What a step needs of a model, and who carries it out.
pub struct Step<'a> {
    model: &'a Llama,
    weights: Plain<'a>,
    instructions: Instructions,
    team: Team,
}

/// The rows at work: what goes into a step.
struct Rows<'a> {
    /// Places of the new tokens [B].
    places: &'a [i64],
    /// Cosines and sines of their angles [B, D/2].
    cos: &'a [f32],
    sin: &'a [f32],
    /// Tokens that the cache has room for in each row.
    capacity: usize,
}

/// What is computed on the way.
struct Boards<'a> {
    x: Board<'a>,
    qkv: Board<'a>,
    mixed: Board<'a>,
    inner: Board<'a>,
}

impl<'a> Step<'a> {
    /// None where the model is not plain, or the processor is not known.
    pub fn new(model: &'a Llama, threads: usize) -> Option<Self> {
        let (weights, instructions) = (model.plain()?, Instructions::of_this_machine()?);
        Some(Self { model, weights, instructions, team: Team::new(threads).ok()? })
    }

    /// Reads one more token of each row; returns the logits of what follows [B, V].
    pub fn decode(&self, ids: &[i64], cache: &mut Cache) -> Tensor {
        let config = self.model.config();
        let places = cache.lengths().to_vec();
        let [cos, sin] = self.model.flat_angles(&Tensor::from_slice(&places));
        let rows = Rows { places: &places, cos: &cos, sin: &sin, capacity: cache.capacity_tokens() };
        let logits = Tensor::empty([ids.len() as i64, config.vocab_size], (Kind::Float, Device::Cpu));
        let sizes = Sizes::of(config);
        let room = |width: usize| vec![0f32; ids.len() * width];
        let (mut qkv, mut mixed, mut inner) =
            (room(sizes.queries + 2 * sizes.keys), room(sizes.queries), room(sizes.inner));
        let mut x = self.embed(ids, sizes.hidden);
        let boards = Boards {
            x: Board::over(&mut x),
            qkv: Board::over(&mut qkv),
            mixed: Board::over(&mut mixed),
            inner: Board::over(&mut inner),
        };
        let rooms: Vec<[Board<'_>; 2]> =
            cache.layers().iter().map(|(keys, values)| [Board::of(keys), Board::of(values)]).collect();
        let found = Board::of(&logits);
        let (weights, instructions, eps) = (&self.weights, self.instructions, config.rms_norm_eps as f32);
        self.team.work(|member| {
            let at = At { instructions, member, rows: &rows, boards: &boards, sizes, eps };
            for (block, room) in weights.blocks.iter().zip(&rooms) {
                at.attention_half(block, room);
                at.mlp_half(block);
            }
            at.head(weights, &found);
        });
        cache.grow();
        logits
    }

    fn embed(&self, ids: &[i64], hidden: usize) -> Vec<f32> {
        ids.iter().flat_map(|&id| &self.weights.embedding[id as usize * hidden..][..hidden]).copied().collect()
    }
}

/// Numbers of a token.
#[derive(Clone, Copy)]
struct Sizes {
    hidden: usize,
    inner: usize,
    queries: usize,
    keys: usize,
    dim: usize,
}

impl Sizes {
    fn of(config: &LlamaConfig) -> Self {
        let size = |size: i64| size as usize;
        let dim = size(config.head_dim);
        let (queries, keys) = (size(config.heads) * dim, size(config.kv_heads) * dim);
        Self { hidden: size(config.hidden_size), inner: size(config.intermediate_size), queries, keys, dim }
    }
}

/// A member of the team at a step.
///
/// Between two meetings a board is only read, or each of its places written by one member: so its uses are sound.
struct At<'a> {
    instructions: Instructions,
    member: &'a Member<'a>,
    rows: &'a Rows<'a>,
    boards: &'a Boards<'a>,
    sizes: Sizes,
    eps: f32,
}

impl At<'_> {
    /// x + o(attention(norm(x))).
    fn attention_half(&self, block: &PlainBlock<'_>, room: &[Board<'_>; 2]) {
        let Sizes { queries, keys, .. } = self.sizes;
        let Boards { x, qkv, mixed, .. } = self.boards;
        let normed = self.norm(block.attention_norm);
        // SAFETY: places that no other member has.
        self.product(&normed, block.qkv, queries + 2 * keys, |at, y| unsafe { qkv.write(at, y) });
        self.member.meet();
        self.remember(room);
        self.member.meet();
        for pair in self.member.turns(self.rows.places.len() * (keys / self.sizes.dim)) {
            self.attend(pair, room);
        }
        self.member.meet();
        // SAFETY: all have met since the mixed values were written; places that no other member has.
        let mixed = unsafe { mixed.read() };
        self.product(mixed, block.o, self.sizes.hidden, |at, y| unsafe { x.add(at, y) });
        self.member.meet();
    }

    /// x + down(silu(gate(norm(x)))∘up(norm(x))).
    fn mlp_half(&self, block: &PlainBlock<'_>) {
        let Sizes { inner: width, hidden, .. } = self.sizes;
        let Boards { x, inner, .. } = self.boards;
        let normed = self.norm(block.mlp_norm);
        let (gate, up) = block.gate_up.split_at(width * hidden);
        // SAFETY: places that no other member has: both products are of the same columns.
        self.product(&normed, gate, width, |at, y| unsafe { inner.write(at, y / (1.0 + (-y).exp())) });
        self.product(&normed, up, width, |at, y| unsafe { inner.scale(at, y) });
        self.member.meet();
        // SAFETY: all have met since; places that no other member has.
        let inner = unsafe { inner.read() };
        self.product(inner, block.down, hidden, |at, y| unsafe { x.add(at, y) });
        self.member.meet();
    }

    /// The logits [B, V].
    fn head(&self, weights: &Plain<'_>, logits: &Board<'_>) {
        let normed = self.norm(weights.norm);
        let vocab = weights.head.len() / self.sizes.hidden;
        // SAFETY: places that no other member has.
        self.product(&normed, weights.head, vocab, |at, y| unsafe { logits.write(at, y) });
    }

    /// x [B, in] times weights [out, in], this member's columns: hands each place in [B, out] and its number to `put`.
    fn product(&self, x: &[f32], weights: &[f32], outputs: usize, mut put: impl FnMut(usize, f32)) {
        let inputs = weights.len() / outputs;
        let matrix = |data| Matrix { data, stride: inputs, width: inputs };
        let columns = self.member.part(outputs, GRAIN);
        let rows = self.rows.places.len();
        let put = |row, column, y| put(row * outputs + column, y);
        self.instructions.product(matrix(x), rows, matrix(weights), columns, put);
    }

    /// x · w / √(mean(x²) + eps) of every row: each member computes it for itself, which is quicker than to wait for it.
    fn norm(&self, weight: &[f32]) -> Vec<f32> {
        // SAFETY: all have met since x was written.
        let x = unsafe { self.boards.x.read() };
        let mut normed = Vec::with_capacity(x.len());
        for row in x.chunks_exact(weight.len()) {
            let r = 1.0 / (sum_of_squares(row) / weight.len() as f32 + self.eps).sqrt();
            normed.extend(row.iter().zip(weight).map(|(x, w)| x * r * w));
        }
        normed
    }

    /// Puts the new keys, turned, and values into the cache.
    fn remember(&self, [keys, values]: &[Board<'_>; 2]) {
        let Sizes { queries, keys: width, dim, .. } = self.sizes;
        // SAFETY: all have met since it was written.
        let qkv = unsafe { self.boards.qkv.read() };
        for (row, new) in qkv.chunks_exact(queries + 2 * width).enumerate() {
            let to = (row * self.rows.capacity + self.rows.places[row] as usize) * width;
            for head in self.member.turns(width / dim) {
                let mut key = new[queries + head * dim..][..dim].to_vec();
                self.turn(&mut key, row);
                let value = &new[queries + width + head * dim..][..dim];
                for i in 0..dim {
                    // SAFETY: the place of a head that no other member has.
                    unsafe {
                        keys.write(to + head * dim + i, key[i]);
                        values.write(to + head * dim + i, value[i]);
                    }
                }
            }
        }
    }

    /// Attention of the query heads that share a key-value head of a row, to the tokens of that row alone.
    fn attend(&self, pair: usize, [keys, values]: &[Board<'_>; 2]) {
        let Sizes { queries, keys: width, dim, .. } = self.sizes;
        let (heads, group) = (width / dim, queries / width);
        let (row, head) = (pair / heads, pair % heads);
        let tokens = self.rows.places[row] as usize + 1;
        let first = row * self.rows.capacity * width + head * dim;
        // SAFETY: all have met since the cache and the queries were written.
        let (keys, values, qkv) = unsafe { (keys.read(), values.read(), self.boards.qkv.read()) };
        let of_row = |data| Matrix { data, stride: width, width: dim };
        let mut turned = qkv[row * (queries + 2 * width) + head * group * dim..][..group * dim].to_vec();
        turned.chunks_exact_mut(dim).for_each(|query| self.turn(query, row));
        let asked = Matrix { data: &turned, stride: dim, width: dim };
        let (scale, mut shares) = (1.0 / (dim as f32).sqrt(), vec![0f32; group * tokens]);
        let put = |query: usize, token: usize, y: f32| shares[query * tokens + token] = y * scale;
        self.instructions.product(asked, group, of_row(&keys[first..]), 0..tokens, put);
        let mut mixed = vec![0f32; dim];
        for (query, shares) in shares.chunks_exact_mut(tokens).enumerate() {
            softmax(shares);
            self.instructions.mix(shares, of_row(&values[first..]), &mut mixed);
            let to = row * queries + (head * group + query) * dim;
            // SAFETY: the place of a head that no other member has.
            mixed.iter().enumerate().for_each(|(i, &y)| unsafe { self.boards.mixed.write(to + i, y) });
        }
    }

    /// Rotates a head of a row: dimension i with i + D/2.
    fn turn(&self, head: &mut [f32], row: usize) {
        let half = self.sizes.dim / 2;
        let angles = |all: &'_ [f32], i: usize| all[row * half + i];
        for i in 0..half {
            let (a, b) = (head[i], head[i + half]);
            let (cos, sin) = (angles(self.rows.cos, i), angles(self.rows.sin, i));
            head[i] = a * cos - b * sin;
            head[i + half] = b * cos + a * sin;
        }
    }
}

/// In lanes, so that the compiler may use vectors.
fn sum_of_squares(row: &[f32]) -> f32 {
    let (lanes, rest) = row.as_chunks::<16>();
    let mut sums = [0f32; 16];
    for chunk in lanes {
        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x * x);
    }
    sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>()
}

fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - most).exp());
    let total: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= total);
}
