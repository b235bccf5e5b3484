// What a block computes besides its products, on the CPU: attention within rows, norms, rotation, gating, the
// gradients of adapters; and the losses of logits.
//
// They know numbers in memory, not tensors; who calls them shares their work out among threads. Sums are in f32.

#pragma once

#include <cstdint>

namespace kernels {

// How the heads of a token lie: queries, then keys, then values, `dim` numbers each.
struct Heads {
  int64_t queries, keys, dim;
};

// What stands before a row, for one key head: keys, turned, and values [tokens, dim].
struct Before {
  int64_t tokens;
  const void *keys, *values;
};

// A row of tokens, and a key head with the query heads that share it.
struct Row {
  Heads heads;
  int64_t tokens, key_head;
  Before before;
};

// Queries of a row that are at work together: few, since half of the scores of their last keys count for nothing.
constexpr int64_t BLOCK = 32;

static constexpr int64_t rounded_up(int64_t count, int64_t to = 16) { return (count + to - 1) / to * to; }

// Numbers that attention needs room for.
static constexpr int64_t room_for(const Row& row) {
  const int64_t tokens = rounded_up(row.before.tokens + row.tokens), dim = rounded_up(row.heads.dim);
  return tokens * (8 * dim + 2 * BLOCK) + BLOCK * dim;
}

// For numbers of one format, f32 or bf16.
struct Kernels {
  // Causal attention: qkv [tokens, width] to mixed [tokens, queries·dim], at this head's places. The logarithms of each
  // query's sum of exponentials go to `sums`, one query head after the other, `stride` apart.
  void (*attend)(const Row& row, const void* qkv, void* mixed, float* sums, int64_t stride, float* room);

  // The gradient of qkv at this head's places, from that of mixed; nothing stands before the row.
  void (*attend_backward)(const Row& row, const void* qkv, const void* mixed, const float* sums, int64_t stride,
                          const void* dmixed, void* dqkv, float* room);

  // x · w / √(mean(x²) + eps) of rows [rows, width]; x is the residual stream, which is in f32.
  void (*rms_norm)(const float* x, const void* w, void* y, int64_t rows, int64_t width, float eps);

  // dx = dy + the norm's gradient for x from that of its output, `dnormed`; all but that and w in f32.
  void (*rms_norm_backward)(const float* dy, const void* dnormed, const float* x, const void* w, float* dx,
                            int64_t rows, int64_t width, float eps);

  // Turns the first `heads` heads of rows [rows, width] in place, dimension i with i + dim/2, by angles [rows, dim/2];
  // `turn` is −1 for the way back.
  void (*rotate)(void* x, const float* cos, const float* sin, int64_t rows, int64_t width, int64_t heads, int64_t dim,
                 float turn);

  // silu(gate)∘up of rows [rows, 2·width] that hold gate and then up.
  void (*gate)(const void* both, void* inner, int64_t rows, int64_t width);

  // The gradient of gate and up, from that of silu(gate)∘up; and silu(gate)∘up once more.
  void (*gate_backward)(const void* both, const void* dinner, void* inner, void* dboth, int64_t rows, int64_t width);

  // out [rank, columns] = thinᵀ · wide, of thin [tokens, rank] with the rank a multiple of 8, and wide [tokens,
  // columns] with rows `wide_stride` apart.
  void (*thin_product)(const float* thin, const void* wide, int64_t wide_stride, float* out, int64_t out_stride,
                       int64_t tokens, int64_t rank, int64_t columns);

  // The cross-entropy of logits [width] against a target. Where a slope is wanted, the logits become `scale` times
  // theirs.
  float (*cross_entropy)(void* logits, int64_t width, int64_t target, float scale, bool wants_slope);
};

// Both formats, compiled for one set of instructions.
struct Level {
  Kernels f32, bf16;
};

// Those in use: at first the widest that this processor has.
const Level& level();

// left [rows, depth] and right, whose products over the depth are summed, in bf16. `right` lies by column [columns,
// depth], as the weight of a projection, or by depth [depth, columns].
struct Factors {
  const void* left;
  int64_t left_stride;
  const void* right;
  int64_t right_stride;
  int64_t depth;
  bool by_column;
};

// The sum of two products in f32, one of which may be of depth 0, and of what is `added` if anything, rounded once to
// bf16 or left in f32: [rows, columns], rows `out_stride` apart in `out` and in `added`.
struct Product {
  int64_t rows, columns;
  Factors parts[2];
  const void* added;
  void* out;
  int64_t out_stride;
  bool f32;
};

// Columns that are multiplied together, and rows.
constexpr int64_t PANEL = 64, PRODUCT_ROWS = 6;

// Words of room that a panel takes.
static constexpr int64_t room_for(const Product& it) {
  return ((it.parts[0].depth + 1) / 2 + (it.parts[1].depth + 1) / 2) * PANEL;
}

// Products in bf16, by panels of columns; each number is summed in the order of the depth, whatever stands beside it.
struct Products {
  // Packs the right factors of a panel.
  void (*pack)(const Product& it, int64_t panel, uint32_t* room);

  // Computes rows [first, end) of a panel that is packed.
  void (*multiply)(const Product& it, int64_t panel, const uint32_t* room, int64_t first, int64_t end);
};

// Null where this processor has no instruction for them, or a better one that oneDNN uses (AMX).
const Products* products();

// Uses the kernels for what every processor has (0), for AVX2 (1) or AVX-512 (2); false where this one lacks it.
bool use_level(int64_t width);

}  // namespace kernels
