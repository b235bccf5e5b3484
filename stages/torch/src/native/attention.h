// Causal attention within a row (arXiv 1706.03762), forward and back, for one key head and the queries that share it.
//
// A block of queries meets all keys before its end at once.
// There: scores S = Q·Kᵀ, shares P = softmax(S), mixed values O = P·V.
// Back, from the kept logarithm of each query's sum: P = exp(S − sum), dV = Pᵀ·dO, dP = dO·Vᵀ,
// dS = P∘(dP − rowsum(dO∘O)), dQ = dS·K, dK = dSᵀ·Q.
// Rows and columns are filled up with zeros to whole tiles. Axes: T tokens, D head dim, both filled up.

#pragma once

#include "kernels.h"
#include "tile.h"

namespace {

using kernels::rounded_up;
using kernels::Row;

// Queries that are at work together: few, since half of the scores of the last block of keys count for nothing.
constexpr int64_t BLOCK = kernels::BLOCK;

// A matrix [rows, columns], row by row.
struct Matrix {
  float* data;
  int64_t stride;

  float* row(int64_t at) const { return data + at * stride; }
};

// c = a·b (or added to it) for whole tiles: rows by 8, columns by 16.
void multiply(int64_t rows, int64_t columns, int64_t depth, const float* a, int64_t am, int64_t ak, Matrix b, Matrix c,
              bool add) {
  for (int64_t m = 0; m < rows; m += TILE_ROWS) {
    int64_t n = 0;
    for (; n + 2 * COUNT <= columns; n += 2 * COUNT) {
      tile<2>(depth, a + m * am, am, ak, b.data + n, b.stride, c.row(m) + n, c.stride, add);
    }
    if (n < columns) tile<1>(depth, a + m * am, am, ak, b.data + n, b.stride, c.row(m) + n, c.stride, add);
  }
}

void multiply(int64_t rows, int64_t columns, int64_t depth, Matrix a, Matrix b, Matrix c) {
  multiply(rows, columns, depth, a.data, a.stride, 1, b, c, false);
}

// c += aᵀ·b.
void add_transposed(int64_t rows, int64_t columns, int64_t depth, Matrix a, Matrix b, Matrix c) {
  multiply(rows, columns, depth, a.data, 1, a.stride, b, c, true);
}

// Matrices out of a thread's room, one after the other, zeros at first.
class Desk {
 public:
  Desk(float* room, int64_t numbers) : next_(room) { std::memset(room, 0, numbers * sizeof(float)); }

  Matrix take(int64_t rows, int64_t columns) {
    const Matrix taken{next_, columns};
    next_ += rows * columns;
    return taken;
  }

 private:
  float* next_;
};

// [tokens, dim] out of rows `stride` apart, times a factor.
template <typename T>
void read(const T* from, int64_t stride, int64_t tokens, int64_t dim, float factor, Matrix to) {
  for (int64_t t = 0; t < tokens; t++) {
    for (int64_t d = 0; d < dim; d += COUNT) store(load(from + t * stride + d, dim - d) * factor, to.row(t) + d);
  }
}

template <typename T>
void write(Matrix from, int64_t tokens, int64_t dim, float factor, T* to, int64_t stride) {
  for (int64_t t = 0; t < tokens; t++) {
    for (int64_t d = 0; d < dim; d += COUNT) store(load(from.row(t) + d) * factor, to + t * stride + d, dim - d);
  }
}

void transpose(Matrix from, int64_t tokens, int64_t dim, Matrix to) {
  for (int64_t t = 0; t < tokens; t++) {
    for (int64_t d = 0; d < dim; d++) to.row(d)[t] = from.row(t)[d];
  }
}

// exp(scores − base) of the keys up to `last`, zeros after; returns their sum.
float exponentials(float* scores, int64_t last, int64_t columns, float base) {
  for (int64_t j = last + 1; j < columns; j++) scores[j] = -__builtin_inff();
  Floats total = {};
  for (int64_t j = 0; j < columns; j += COUNT) {
    const Floats e = exp(load(scores + j) - base);
    store(e, scores + j);
    total += e;
  }
  return sum(total);
}

float largest_of(const float* scores, int64_t count) {
  Floats most = all(-__builtin_inff());
  int64_t j = 0;
  for (; j + COUNT <= count; j += COUNT) {
    const Floats here = load(scores + j);
    most = here > most ? here : most;
  }
  float found = largest(most);
  for (; j < count; j++) found = scores[j] > found ? scores[j] : found;
  return found;
}

template <typename T>
void attend(const Row& row, const T* qkv, T* mixed, float* sums, int64_t sums_stride, float* room) {
  const auto [heads, tokens, key_head, before] = row;
  const int64_t dim = heads.dim, group = heads.queries / heads.keys;
  const int64_t width = (heads.queries + 2 * heads.keys) * dim, mixed_width = heads.queries * dim;
  const int64_t seen = before.tokens + tokens, all_tokens = rounded_up(seen), all_dim = rounded_up(dim);
  Desk desk(room, all_tokens * (4 * all_dim + BLOCK) + BLOCK * all_dim);
  const Matrix k = desk.take(all_tokens, all_dim), kt = desk.take(all_dim, all_tokens);
  const Matrix v = desk.take(all_tokens, all_dim), q = desk.take(all_tokens, all_dim);
  const Matrix scores = desk.take(BLOCK, all_tokens), out = desk.take(BLOCK, all_dim);
  const T* keys = qkv + (heads.queries + key_head) * dim;
  read((const T*)before.keys, dim, before.tokens, dim, 1, k);
  read((const T*)before.values, dim, before.tokens, dim, 1, v);
  read(keys, width, tokens, dim, 1, {k.row(before.tokens), k.stride});
  read(keys + heads.keys * dim, width, tokens, dim, 1, {v.row(before.tokens), v.stride});
  transpose(k, seen, dim, kt);
  for (int64_t at = 0; at < group; at++) {
    const int64_t head = key_head * group + at;
    read(qkv + head * dim, width, tokens, dim, 1 / __builtin_sqrtf(float(dim)), q);
    for (int64_t first = 0; first < tokens; first += BLOCK) {
      const int64_t count = tokens - first < BLOCK ? tokens - first : BLOCK, rows = rounded_up(count, TILE_ROWS);
      const int64_t place = before.tokens + first, columns = rounded_up(place + count);
      multiply(rows, columns, dim, {q.row(first), q.stride}, kt, scores);
      float inverse[BLOCK] = {};
      for (int64_t i = 0; i < count; i++) {
        const float most = largest_of(scores.row(i), place + i + 1);
        const float total = exponentials(scores.row(i), place + i, columns, most);
        inverse[i] = 1 / total;
        sums[at * sums_stride + first + i] = most + __builtin_logf(total);
      }
      multiply(rows, all_dim, place + count, scores, v, out);
      for (int64_t i = 0; i < count; i++) {
        write({out.row(i), out.stride}, 1, dim, inverse[i], mixed + (first + i) * mixed_width + head * dim, 0);
      }
    }
  }
}

template <typename T>
float row_dot(const T* a, const T* b, int64_t dim) {
  Floats total = {};
  for (int64_t d = 0; d < dim; d += COUNT) total += load(a + d, dim - d) * load(b + d, dim - d);
  return sum(total);
}

template <typename T>
void attend_backward(const Row& row, const T* qkv, const T* mixed, const float* sums, int64_t sums_stride,
                     const T* dmixed, T* dqkv, float* room) {
  const auto [heads, tokens, key_head, before] = row;
  const int64_t dim = heads.dim, group = heads.queries / heads.keys;
  const int64_t width = (heads.queries + 2 * heads.keys) * dim, mixed_width = heads.queries * dim;
  const float scale = 1 / __builtin_sqrtf(float(dim));
  const int64_t all_tokens = rounded_up(tokens), all_dim = rounded_up(dim);
  Desk desk(room, kernels::room_for(row));
  const Matrix k = desk.take(all_tokens, all_dim), kt = desk.take(all_dim, all_tokens);
  const Matrix v = desk.take(all_tokens, all_dim), vt = desk.take(all_dim, all_tokens);
  const Matrix q = desk.take(all_tokens, all_dim), dout = desk.take(all_tokens, all_dim);
  const Matrix dk = desk.take(all_tokens, all_dim), dv = desk.take(all_tokens, all_dim);
  const Matrix shares = desk.take(BLOCK, all_tokens), slopes = desk.take(BLOCK, all_tokens);
  const Matrix dq = desk.take(BLOCK, all_dim);
  const int64_t keys = (heads.queries + key_head) * dim, values = keys + heads.keys * dim;
  read(qkv + keys, width, tokens, dim, 1, k);
  read(qkv + values, width, tokens, dim, 1, v);
  transpose(k, tokens, dim, kt);
  transpose(v, tokens, dim, vt);
  for (int64_t at = 0; at < group; at++) {
    const int64_t head = key_head * group + at;
    read(qkv + head * dim, width, tokens, dim, scale, q);
    read(dmixed + head * dim, mixed_width, tokens, dim, 1, dout);
    for (int64_t first = 0; first < tokens; first += BLOCK) {
      const int64_t count = tokens - first < BLOCK ? tokens - first : BLOCK, rows = rounded_up(count, TILE_ROWS);
      const int64_t columns = rounded_up(first + count);
      const Matrix queries{q.row(first), q.stride}, received{dout.row(first), dout.stride};
      multiply(rows, columns, dim, queries, kt, shares);
      multiply(rows, columns, dim, received, vt, slopes);
      for (int64_t i = 0; i < count; i++) {
        float *p = shares.row(i), *s = slopes.row(i);
        exponentials(p, first + i, columns, sums[at * sums_stride + first + i]);
        const int64_t place = (first + i) * mixed_width + head * dim;
        const float mean = row_dot(mixed + place, dmixed + place, dim);
        for (int64_t j = 0; j < columns; j += COUNT) store(load(p + j) * (load(s + j) - mean), s + j);
      }
      multiply(rows, all_dim, first + count, slopes, k, dq);
      write(dq, count, dim, scale, dqkv + first * width + head * dim, width);
      add_transposed(columns, all_dim, count, slopes, queries, dk);
      add_transposed(columns, all_dim, count, shares, received, dv);
    }
  }
  write(dk, tokens, dim, 1, dqkv + keys, width);
  write(dv, tokens, dim, 1, dqkv + values, width);
}

}  // namespace
