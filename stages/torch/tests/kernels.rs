//! Products, and the two halves of a block, computed by kernels for each set of instructions, against plain operators.
#![allow(clippy::unwrap_used)]

use neftpipe_stage_torch::native::{self, Half, Layout};
use tch::{Device, Kind, Tensor};

/// Sizes that fill vectors and tiles, and sizes that do not.
struct Case {
    hidden: i64,
    inner: i64,
    heads: [i64; 3],
    rank: i64,
    lengths: &'static [i64],
}

const CASES: [Case; 3] = [
    Case { hidden: 64, inner: 96, heads: [4, 2, 16], rank: 8, lengths: &[31, 1, 64, 33] },
    Case { hidden: 20, inner: 37, heads: [3, 1, 6], rank: 3, lengths: &[5, 17, 40] },
    Case { hidden: 48, inner: 50, heads: [2, 2, 64], rank: 5, lengths: &[130] },
];
const LEVELS: i64 = 3;
const EPS: f64 = 1e-5;
const SCALING: f64 = 1.5;

/// The weights of a block, and what it is given; all f64, so that the plain operators are exact beside the kernels.
struct Block {
    x: Tensor,
    norms: [Tensor; 2],
    weights: [Tensor; 4],
    adapters: Vec<[Tensor; 2]>,
    angles: [Tensor; 2],
    upstream: Tensor,
}

fn random(shape: &[i64], scale: f64) -> Tensor {
    Tensor::randn(shape, (Kind::Double, Device::Cpu)) * scale
}

impl Block {
    fn of(case: &Case) -> Self {
        tch::manual_seed(11);
        let [queries, keys, dim] = case.heads;
        let (tokens, hidden, inner): (i64, _, _) = (case.lengths.iter().sum(), case.hidden, case.inner);
        let (wide, narrow) = (queries * dim, keys * dim);
        let weight = |outputs: i64, inputs: i64| random(&[outputs, inputs], 1.0 / (inputs as f64).sqrt());
        let shapes = [
            (wide, hidden),
            (narrow, hidden),
            (narrow, hidden),
            (hidden, wide),
            (inner, hidden),
            (inner, hidden),
            (hidden, inner),
        ];
        let adapter = |(outputs, inputs): (i64, i64)| [weight(case.rank, inputs), weight(outputs, case.rank) * 0.5];
        let angles = random(&[tokens, dim / 2], 1.0);
        Self {
            x: random(&[tokens, hidden], 1.0),
            norms: [random(&[hidden], 0.1) + 1.0, random(&[hidden], 0.1) + 1.0],
            weights: [
                weight(wide + 2 * narrow, hidden),
                weight(hidden, wide),
                weight(2 * inner, hidden),
                weight(hidden, inner),
            ],
            adapters: shapes.map(adapter).into(),
            angles: [angles.cos(), angles.sin()],
            upstream: random(&[tokens, hidden], 1.0),
        }
    }

    /// Rounded to a number format; what is trained collects gradients. Angles stay in f32.
    fn rounded(&self, kind: Kind, to: Kind) -> Self {
        let round = |x: &Tensor| x.to_kind(kind).to_kind(to);
        let trained = |x: &Tensor| round(x).detach().set_requires_grad(true);
        Self {
            x: trained(&self.x),
            norms: self.norms.each_ref().map(round),
            weights: self.weights.each_ref().map(round),
            adapters: self
                .adapters
                .iter()
                .map(|it| {
                    it.each_ref().map(|it| {
                        it.to_kind(Kind::Float)
                            .to_kind(if to == Kind::BFloat16 { Kind::Float } else { to })
                            .set_requires_grad(true)
                    })
                })
                .collect(),
            angles: self
                .angles
                .each_ref()
                .map(|it| it.to_kind(Kind::Float).to_kind(if to == Kind::BFloat16 { Kind::Float } else { to })),
            upstream: round(&self.upstream),
        }
    }

    /// The block's output and the gradients of its input and its adapters.
    fn results(&self, output: Tensor) -> Vec<Tensor> {
        (&output * &self.upstream).sum(Kind::Double).backward();
        let gradients = self.adapters.iter().flatten().map(Tensor::grad);
        [output, self.x.grad()].into_iter().chain(gradients).map(|it| it.detach().to_kind(Kind::Double)).collect()
    }

    fn by_kernels(&self, case: &Case) -> Vec<Tensor> {
        let half = |norm: usize, reads: usize| Half {
            norm: &self.norms[norm],
            eps: EPS,
            reads: &self.weights[reads],
            writes: &self.weights[reads + 1],
            scaling: SCALING,
        };
        let adapter = |at: usize| Some((&self.adapters[at][0], &self.adapters[at][1]));
        let [cos, sin] = &self.angles;
        let rows = Layout { lengths: case.lengths, heads: case.heads, cos, sin, before: None };
        let (x, _) =
            native::attention_half(&self.x.to_kind(Kind::Float), &half(0, 0), [0, 1, 2, 3].map(adapter), &rows);
        self.results(native::mlp_half(&x, &half(1, 2), [4, 5, 6].map(adapter)))
    }

    fn by_operators(&self, case: &Case) -> Vec<Tensor> {
        let norm = |x: &Tensor, at: usize| {
            let mean = x.square().mean_dim([-1i64].as_slice(), true, x.kind());
            x * (mean + EPS).rsqrt() * &self.norms[at]
        };
        let adapted = |x: &Tensor, weight: &Tensor, at: usize| {
            let [a, b] = &self.adapters[at];
            x.mm(&weight.tr()) + x.mm(&a.tr()).mm(&b.tr()) * SCALING
        };
        let [queries, keys, dim] = case.heads;
        let normed = norm(&self.x, 0);
        let parts = self.weights[0].split_with_sizes([queries * dim, keys * dim, keys * dim], 0);
        let heads = |at: usize, count: i64| adapted(&normed, &parts[at], at).view([-1, count, dim]);
        let rotate = |x: Tensor| {
            let [cos, sin] = self.angles.each_ref().map(|it| it.unsqueeze(1));
            let halves = x.chunk(2, -1);
            let (a, b) = (&halves[0], &halves[1]);
            Tensor::cat(&[a * &cos - b * &sin, b * &cos + a * &sin], -1)
        };
        let (q, k, v) = (rotate(heads(0, queries)), rotate(heads(1, keys)), heads(2, keys));
        let repeat = |x: &Tensor| x.repeat_interleave_self_int(queries / keys, 1, None);
        let (k, v) = (repeat(&k), repeat(&v));
        let mut start = 0;
        let mixed: Vec<Tensor> = case
            .lengths
            .iter()
            .map(|&tokens| {
                let [q, k, v] = [&q, &k, &v].map(|it| it.narrow(0, start, tokens).transpose(0, 1));
                start += tokens;
                let above = Tensor::ones([tokens, tokens], (Kind::Bool, Device::Cpu)).triu(1);
                let scores = (q.bmm(&k.transpose(1, 2)) / (dim as f64).sqrt()).masked_fill(&above, f64::NEG_INFINITY);
                scores.softmax(-1, scores.kind()).bmm(&v).transpose(0, 1).reshape([tokens, queries * dim])
            })
            .collect();
        let x = &self.x + adapted(&Tensor::cat(&mixed, 0), &self.weights[1], 3);
        let normed = norm(&x, 1);
        let parts = self.weights[2].chunk(2, 0);
        let inner = adapted(&normed, &parts[0], 4).silu() * adapted(&normed, &parts[1], 5);
        self.results(&x + adapted(&inner, &self.weights[3], 6))
    }
}

/// Distance in relation to the size of what is compared.
fn distance(ours: &Tensor, theirs: &Tensor) -> f64 {
    ((ours - theirs).norm() / theirs.norm()).double_value(&[])
}

// One test: the set of instructions is the process's.
#[test]
fn kernels_are_plain_operators_with_every_set_of_instructions() {
    let levels: Vec<i64> = (0..LEVELS).filter(|&level| native::use_level(level)).collect();
    assert!(!levels.is_empty());
    assert!(!native::use_level(LEVELS));
    for level in levels {
        assert!(native::use_level(level));
        halves_of_a_block_are_those_of_operators(level);
        products_in_bf16_are_rounded_once(level);
    }
}

fn halves_of_a_block_are_those_of_operators(level: i64) {
    for case in &CASES {
        let block = Block::of(case);
        for (kind, most) in [(Kind::Float, 2e-6), (Kind::BFloat16, 2e-2)] {
            let exact = block.rounded(kind, Kind::Double).by_operators(case);
            let ours = block.rounded(kind, kind).by_kernels(case);
            for (at, (ours, exact)) in ours.iter().zip(&exact).enumerate() {
                let distance = distance(ours, exact);
                assert!(distance < most, "level {level}, {kind:?}, head dim {}, {at}: {distance}", case.heads[2]);
            }
        }
    }
}

/// Rows, depth and columns that fill blocks, pairs and panels, and some that do not.
const PRODUCTS: [[i64; 3]; 8] =
    [[16, 2, 64], [17, 1, 1], [33, 31, 63], [64, 64, 128], [21, 130, 65], [100, 7, 200], [1, 9, 5], [130, 257, 48]];

fn products_in_bf16_are_rounded_once(level: i64) {
    tch::manual_seed(12);
    let bf16 = |shape: &[i64]| random(shape, 1.0).to_kind(Kind::BFloat16);
    let exact = |x: &Tensor| x.detach().to_kind(Kind::Double);
    for [rows, depth, columns] in PRODUCTS {
        let x = bf16(&[rows, depth]).set_requires_grad(true);
        let (as_stored, turned) = (bf16(&[columns, depth]), bf16(&[depth, columns]).tr());
        let added = bf16(&[rows, columns]);
        for weight in [as_stored, turned] {
            for added in [None, Some(&added)] {
                let y = native::product(&x, &weight, added);
                let sum = exact(&x).mm(&exact(&weight).tr()) + added.map_or(exact(&y) * 0.0, exact);
                // Half a unit in the last place, and what sums in f32 lose where terms cancel.
                let most = sum.abs() / 256.0 + 1e-4 * depth as f64;
                let over = (exact(&y) - &sum).abs().gt_tensor(&most).any();
                assert_eq!(over.int64_value(&[]), 0, "level {level}: {rows} x {depth} x {columns}");

                let upstream = bf16(&[rows, columns]);
                let found = Tensor::run_backward(&[(&y * &upstream).sum(Kind::Float)], &[&x], false, false);
                let gradient = exact(&upstream).mm(&exact(&weight));
                let distance = distance(&exact(&found[0]), &gradient);
                assert!(distance < 4e-3, "level {level}: {rows} x {depth} x {columns}, back: {distance}");
            }
        }
    }
}
