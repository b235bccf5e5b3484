// A small product in registers: 8 rows by 16 or 32 columns.

#pragma once

#include "lanes.h"

namespace {

constexpr int64_t TILE_ROWS = 8;

// c[8, 16·COLUMNS] = Σₖ a[m·am + k·ak] · b[k, n], or added to what c holds.
template <int COLUMNS, typename T>
inline void tile(int64_t depth, const float* a, int64_t am, int64_t ak, const T* b, int64_t bs, float* c, int64_t cs,
                 bool add) {
  Floats sums[TILE_ROWS][COLUMNS];
#pragma GCC unroll 8
  for (int m = 0; m < TILE_ROWS; m++) {
#pragma GCC unroll 2
    for (int n = 0; n < COLUMNS; n++) sums[m][n] = add ? load(c + m * cs + n * COUNT) : Floats{};
  }
  for (int64_t k = 0; k < depth; k++) {
    Floats right[COLUMNS];
#pragma GCC unroll 2
    for (int n = 0; n < COLUMNS; n++) right[n] = load(b + k * bs + n * COUNT);
#pragma GCC unroll 8
    for (int m = 0; m < TILE_ROWS; m++) {
      const Floats left = all(a[m * am + k * ak]);
#pragma GCC unroll 2
      for (int n = 0; n < COLUMNS; n++) sums[m][n] += left * right[n];
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < TILE_ROWS; m++) {
#pragma GCC unroll 2
    for (int n = 0; n < COLUMNS; n++) store(sums[m][n], c + m * cs + n * COUNT);
  }
}

}  // namespace
