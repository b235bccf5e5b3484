//! A step of decoding, all blocks of it, by a team of threads on slices.
//!
//! Axes: B rows, L lanes for them, H query heads, K key-value heads, G = H/K, D head dim, T tokens of one row. On boards
//! rows stand in lanes, side by side: the first number of every row, then the second of every row; lanes without a row hold
//! what nobody reads.

use tch::{Device, Kind, Tensor};

use super::board::Board;
use super::kernel::{Instructions, LINE, Matrix, NEAR, lanes_for};
use super::softmax::exp;
use super::team::{Member, Team};
use crate::model::llama::{Plain, PlainBlock};
use crate::model::{Cache, Llama, LlamaConfig};

/// Columns of a product are dealt out in blocks of so many: few, so that many threads have nearly the same to do.
const GRAIN: usize = 8;

/// Columns of logits that are computed before they are laid out row by row: so many that each row gets whole lines.
const LOGITS: usize = 10 * NEAR;

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
    /// L.
    lanes: usize,
    /// Cosines and sines of their angles [B, D/2].
    cos: &'a [f32],
    sin: &'a [f32],
    /// Tokens that the cache has room for in each row.
    capacity: usize,
}

/// What is computed on the way, each [numbers of a token, L].
struct Boards<'a> {
    x: Board<'a>,
    qkv: Board<'a>,
    mixed: Board<'a>,
    inner: Board<'a>,
}

impl<'a> Step<'a> {
    /// None where the model is not plain, its heads do not fill up lanes, or the processor is not known.
    pub fn new(model: &'a Llama, threads: usize) -> Option<Self> {
        let dim = model.config().head_dim as usize;
        if lanes_for(dim) != dim {
            return None;
        }
        let (weights, instructions) = (model.plain()?, Instructions::of_this_machine()?);
        Some(Self { model, weights, instructions, team: Team::new(threads).ok()? })
    }

    /// Reads one more token of each row; returns the logits of what follows [B, V].
    pub fn decode(&self, ids: &[i64], cache: &mut Cache) -> Tensor {
        let config = self.model.config();
        let places = cache.lengths().to_vec();
        assert_eq!(ids.len(), places.len(), "a token for each row");
        assert!(places.iter().all(|&place| (place as usize) < cache.capacity_tokens()), "each row has room for it");
        let [cos, sin] = self.model.flat_angles(&Tensor::from_slice(&places));
        let lanes = lanes_for(ids.len());
        let rows = Rows { places: &places, lanes, cos: &cos, sin: &sin, capacity: cache.capacity_tokens() };
        let logits = Tensor::empty([ids.len() as i64, config.vocab_size], (Kind::Float, Device::Cpu));
        let sizes = Sizes::of(config);
        let room = |width: usize| vec![0f32; width * lanes];
        let (mut qkv, mut mixed, mut inner) =
            (room(sizes.queries + 2 * sizes.keys), room(sizes.queries), room(sizes.inner));
        let mut x = room(sizes.hidden);
        self.embed(ids, lanes, &mut x);
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

    fn embed(&self, ids: &[i64], lanes: usize, x: &mut [f32]) {
        let hidden = x.len() / lanes;
        for (row, &id) in ids.iter().enumerate() {
            let embedded = &self.weights.embedding[id as usize * hidden..][..hidden];
            x.iter_mut().skip(row).step_by(lanes).zip(embedded).for_each(|(x, &number)| *x = number);
        }
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
        self.product(&normed, block.qkv, queries + 2 * keys, qkv, |qkv, y| qkv.copy_from_slice(y));
        self.member.meet();
        self.remember(room);
        self.member.meet();
        for pair in self.member.turns(self.rows.places.len() * (keys / self.sizes.dim)) {
            self.attend(pair, room);
        }
        self.member.meet();
        // SAFETY: all have met since the mixed values were written.
        let mixed = unsafe { mixed.read() };
        self.product(mixed, block.o, self.sizes.hidden, x, add);
        self.member.meet();
    }

    /// x + down(silu(gate(norm(x)))∘up(norm(x))).
    fn mlp_half(&self, block: &PlainBlock<'_>) {
        let Sizes { inner: width, hidden, .. } = self.sizes;
        let Boards { x, inner, .. } = self.boards;
        let normed = self.norm(block.mlp_norm);
        let (gate, up) = block.gate_up.split_at(width * hidden);
        self.product(&normed, gate, width, inner, |inner, y| {
            inner.iter_mut().zip(y).for_each(|(inner, y)| *inner = y / (1.0 + exp(-y)));
        });
        self.product(&normed, up, width, inner, |inner, y| inner.iter_mut().zip(y).for_each(|(inner, y)| *inner *= y));
        self.member.meet();
        // SAFETY: all have met since it was written.
        let inner = unsafe { inner.read() };
        self.product(inner, block.down, hidden, x, add);
        self.member.meet();
    }

    /// The logits [B, V].
    fn head(&self, weights: &Plain<'_>, logits: &Board<'_>) {
        let (normed, lanes) = (self.norm(weights.norm), self.rows.lanes);
        let vocab = weights.head.len() / self.sizes.hidden;
        let weights = matrix(weights.head, self.sizes.hidden);
        let (columns, mut found) = (self.member.part(vocab, GRAIN), vec![0f32; LOGITS * lanes]);
        for first in columns.clone().step_by(LOGITS) {
            let part = first..columns.end.min(first + LOGITS);
            self.instructions.product(matrix(&normed, lanes), weights, part.clone(), |column, lane, y| {
                found[(column - first) * lanes + lane..][..y.len()].copy_from_slice(y);
            });
            for row in 0..self.rows.places.len() {
                // SAFETY: places that no other member has.
                let logits = unsafe { logits.places(row * vocab + first, part.len()) };
                let found = found.iter().skip(row).step_by(lanes);
                logits.iter_mut().zip(found).for_each(|(logit, &y)| *logit = y);
            }
        }
    }

    /// x [in, L] times weights [out, in], this member's columns: hands the places in [out, L] and their numbers to `put`.
    fn product(&self, x: &[f32], weights: &[f32], outputs: usize, out: &Board<'_>, put: impl Fn(&mut [f32], &[f32])) {
        let (lanes, inputs) = (self.rows.lanes, weights.len() / outputs);
        let (x, weights) = (matrix(x, lanes), matrix(weights, inputs));
        self.instructions.product(x, weights, self.member.part(outputs, GRAIN), |column, lane, y| {
            // SAFETY: places that no other member has: all products into a board share its columns out alike.
            put(unsafe { out.places(column * lanes + lane, y.len()) }, y);
        });
    }

    /// x · w / √(mean(x²) + eps) of every row: each member computes it for itself, which is quicker than to wait for it.
    fn norm(&self, weight: &[f32]) -> Vec<f32> {
        // SAFETY: all have met since x was written.
        let (x, lanes) = (unsafe { self.boards.x.read() }, self.rows.lanes);
        let mut roots = vec![0f32; lanes];
        for numbers in x.chunks_exact(lanes) {
            roots.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += x * x);
        }
        roots.iter_mut().for_each(|sum| *sum = 1.0 / (*sum / weight.len() as f32 + self.eps).sqrt());
        let mut normed = x.to_vec();
        for (numbers, w) in normed.chunks_exact_mut(lanes).zip(weight) {
            numbers.iter_mut().zip(&roots).for_each(|(x, r)| *x = *x * r * w);
        }
        normed
    }

    /// Puts the new keys, turned, and values into the cache.
    fn remember(&self, [keys, values]: &[Board<'_>; 2]) {
        let Sizes { queries, keys: width, dim, .. } = self.sizes;
        for row in 0..self.rows.places.len() {
            for head in self.member.turns(width / dim) {
                let to = self.place(row, head) + self.rows.places[row] as usize * dim;
                // SAFETY: the places of a head that no other member has.
                let (key, value) = unsafe { (keys.places(to, dim), values.places(to, dim)) };
                self.gather(queries + head * dim, row, key);
                self.gather(queries + width + head * dim, row, value);
                self.turn(key, row);
            }
        }
    }

    /// Where the keys or values of a head of a row begin in the cache.
    fn place(&self, row: usize, head: usize) -> usize {
        let Sizes { keys, dim, .. } = self.sizes;
        (row * keys + head * dim) * self.rows.capacity
    }

    /// Attention of the query heads that share a key-value head of a row, to the tokens of that row alone.
    fn attend(&self, pair: usize, [keys, values]: &[Board<'_>; 2]) {
        let Sizes { queries, keys: width, dim, .. } = self.sizes;
        let (heads, group) = (width / dim, queries / width);
        let (row, head) = (pair / heads, pair % heads);
        let tokens = self.rows.places[row] as usize + 1;
        let first = self.place(row, head);
        // SAFETY: all have met since the cache was written.
        let (keys, values) = unsafe { (keys.read(), values.read()) };
        let (mut asked, mut query) = (vec![0f32; dim * lanes_for(group)], vec![0f32; dim]);
        for lane in 0..group {
            self.gather((head * group + lane) * dim, row, &mut query);
            self.turn(&mut query, row);
            let lane = asked.iter_mut().skip(lane).step_by(lanes_for(group));
            lane.zip(&query).for_each(|(asked, &number)| *asked = number);
        }
        let width = tokens.next_multiple_of(LINE);
        let (scale, mut shares) = (1.0 / (dim as f32).sqrt(), vec![f32::NEG_INFINITY; group * width]);
        let asked = matrix(&asked, lanes_for(group));
        self.instructions.product(asked, matrix(&keys[first..], dim), 0..tokens, |token, lane, y| {
            (lane..group).zip(y).for_each(|(query, y)| shares[query * width + token] = y * scale);
        });
        let (lines, _) = shares.as_chunks_mut();
        lines.chunks_exact_mut(width / LINE).for_each(|scores| self.instructions.softmax(scores));
        let (values, shares) = (matrix(&values[first..], dim), Matrix { data: &shares, stride: width, width: tokens });
        self.instructions.product(values, shares, 0..group, |query, lane, y| {
            for (i, &y) in (lane..).zip(y) {
                let place = ((head * group + query) * dim + i) * self.rows.lanes + row;
                // SAFETY: the place of a head that no other member has.
                unsafe { self.boards.mixed.places(place, 1)[0] = y };
            }
        });
    }

    /// The numbers of a row of queries, keys and values, from this one on.
    fn gather(&self, first: usize, row: usize, to: &mut [f32]) {
        // SAFETY: all have met since it was written.
        let qkv = unsafe { self.boards.qkv.read() };
        let numbers = qkv[first * self.rows.lanes..].iter().skip(row).step_by(self.rows.lanes);
        to.iter_mut().zip(numbers).for_each(|(to, &number)| *to = number);
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

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Whose rows lie one after the other.
fn matrix(data: &[f32], width: usize) -> Matrix<'_> {
    Matrix { data, stride: width, width }
}
