// Products over all tokens of something thin with something wide: the gradients of adapters.

#pragma once

#include "tile.h"

namespace {

// out [rank, columns] = thinᵀ [tokens, rank] · wide [tokens, columns], the rank a multiple of 8.
template <typename T>
void thin_product(const float* thin, const T* wide, int64_t wide_stride, float* out, int64_t out_stride, int64_t tokens,
                  int64_t rank, int64_t columns) {
  for (int64_t n = 0; n < columns;) {
    const int64_t left = columns - n;
    for (int64_t r = 0; r < rank; r += TILE_ROWS) {
      float* c = out + r * out_stride + n;
      if (left >= 2 * COUNT) {
        tile<2>(tokens, thin + r, 1, rank, wide + n, wide_stride, c, out_stride, false);
      } else if (left >= COUNT) {
        tile<1>(tokens, thin + r, 1, rank, wide + n, wide_stride, c, out_stride, false);
      } else {
        for (int64_t m = 0; m < TILE_ROWS; m++) {
          Floats sums = {};
          for (int64_t k = 0; k < tokens; k++) sums += load(wide + k * wide_stride + n, left) * thin[k * rank + r + m];
          store(sums, c + m * out_stride, left);
        }
      }
    }
    n += left >= 2 * COUNT ? 2 * COUNT : COUNT;
  }
}

}  // namespace
