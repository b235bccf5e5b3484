// Products of bf16 numbers by the processor's instruction for pairs of them (AVX-512 BF16), summed in f32.
//
// The right factor is packed, a panel of 64 columns at a time: pairs of numbers along the depth side by side, for all
// columns of a panel one after the other. The left one is read as it lies. On a processor whose peak is 430 GFLOP/s on
// two cores, over weights that come from memory, these run at 425 where oneDNN's run at 365.

#include <immintrin.h>

#include "kernels.h"

namespace {

using kernels::Factors;
using kernels::PANEL;
using kernels::Product;

constexpr int64_t ROWS = kernels::PRODUCT_ROWS, LANES = 16, VECTORS = PANEL / LANES;
constexpr int64_t LINE = 32;  // numbers of a cache line
static_assert(PANEL % LANES == 0);

const uint16_t* at(const void* numbers, int64_t place) { return static_cast<const uint16_t*>(numbers) + place; }

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// The first `count` of 16 or 32 numbers; none where it is below 0.
__mmask16 first_16(int64_t count) { return count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1; }
__mmask32 first_32(int64_t count) { return count >= 32 ? 0xffffffff : count <= 0 ? 0 : (1u << count) - 1; }

// ---- Packing --------------------------------------------------------------------------------------------------------

// How many rows ahead what lies by depth is fetched: a weight comes from memory, and no processor foresees such
// strides. With this and the prefetching of what lies by column, packing takes 7% of a step of SmolLM2, without 10%.
constexpr int64_t AHEAD = 32;

// 16 rows of 16 words become its columns.
void transpose(__m512i rows[LANES]) {
  __m512i turned[LANES];
  for (int i = 0; i < 8; i++) {
    turned[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    turned[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  }
  for (int i = 0; i < 4; i++) {
    const __m512i* four = turned + 4 * i;
    rows[4 * i] = _mm512_unpacklo_epi64(four[0], four[2]);
    rows[4 * i + 1] = _mm512_unpackhi_epi64(four[0], four[2]);
    rows[4 * i + 2] = _mm512_unpacklo_epi64(four[1], four[3]);
    rows[4 * i + 3] = _mm512_unpackhi_epi64(four[1], four[3]);
  }
  constexpr int EVEN = 0x88, ODD = 0xdd;  // which quarters of two vectors
  for (int i = 0; i < 4; i++) {
    turned[i] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], EVEN);
    turned[i + 4] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], ODD);
    turned[i + 8] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], EVEN);
    turned[i + 12] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], ODD);
  }
  for (int i = 0; i < 8; i++) {
    rows[i] = _mm512_shuffle_i32x4(turned[i], turned[i + 8], EVEN);
    rows[i + 8] = _mm512_shuffle_i32x4(turned[i], turned[i + 8], ODD);
  }
}

// Right factors that lie by column, as weights do [columns, depth].
void pack_by_column(const Factors& it, int64_t first, int64_t columns, uint32_t* panel) {
  for (int64_t n = 0; n < columns; n += LANES) {
    for (int64_t k = 0; k < it.depth; k += 2 * LANES) {
      const int64_t pairs = least(LANES, (it.depth - k + 1) / 2);
      __m512i words[LANES];
      for (int64_t i = 0; i < LANES; i++) {
        const __mmask32 there = n + i < columns ? first_32(it.depth - k) : 0;
        const uint16_t* from = at(it.right, (first + n + i) * it.right_stride + k);
        _mm_prefetch(from + 2 * LINE, _MM_HINT_T0);
        words[i] = _mm512_maskz_loadu_epi16(there, from);
      }
      transpose(words);
      for (int64_t i = 0; i < pairs; i++) _mm512_storeu_si512(panel + (k / 2 + i) * PANEL + n, words[i]);
    }
  }
}

// Those that lie by depth [depth, columns].
void pack_by_depth(const Factors& it, int64_t first, int64_t columns, uint32_t* panel) {
  for (int64_t k = 0; k < it.depth; k += 2) {
    for (int64_t ahead = k + AHEAD; ahead < k + AHEAD + 2; ahead++) {
      const uint16_t* from = at(it.right, ahead * it.right_stride + first);
      for (int64_t n = 0; n < columns; n += LINE) _mm_prefetch(from + n, _MM_HINT_T0);
    }
    for (int64_t n = 0; n < columns; n += LANES) {
      const __mmask16 there = first_16(columns - n);
      const auto words = [&](int64_t depth, __mmask16 mask) {
        const uint16_t* from = at(it.right, depth * it.right_stride + first + n);
        return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from));
      };
      const __m512i low = words(k, there), high = words(k + 1, k + 1 < it.depth ? there : 0);
      _mm512_storeu_si512(panel + k / 2 * PANEL + n, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
  }
}

void pack(const Product& it, int64_t panel, uint32_t* room) {
  const int64_t first = panel * PANEL, columns = least(PANEL, it.columns - first);
  for (const Factors& part : it.parts) {
    (part.by_column ? pack_by_column : pack_by_depth)(part, first, columns, room);
    room += (part.depth + 1) / 2 * PANEL;
  }
}

// ---- Multiplying ----------------------------------------------------------------------------------------------------

using Sums = __m512[ROWS][VECTORS];

// Adds left rows · panel, by pairs of numbers.
template <int WIDE>
inline void add(Sums& sums, const uint16_t* const left[ROWS], int64_t depth, const uint32_t* panel) {
  const auto step = [&](int64_t k, auto pair_of) {
    __m512bh right[WIDE];
#pragma GCC unroll 4
    for (int n = 0; n < WIDE; n++) right[n] = (__m512bh)_mm512_loadu_si512(panel + k / 2 * PANEL + n * LANES);
#pragma GCC unroll 6
    for (int m = 0; m < ROWS; m++) {
      const __m512bh pair = (__m512bh)_mm512_set1_epi32(pair_of(left[m] + k));
#pragma GCC unroll 4
      for (int n = 0; n < WIDE; n++) sums[m][n] = _mm512_dpbf16_ps(sums[m][n], pair, right[n]);
    }
  };
  const auto both = [](const uint16_t* from) {
    int32_t pair;
    __builtin_memcpy(&pair, from, sizeof pair);
    return pair;
  };
  const int64_t even = depth & ~int64_t(1);
  for (int64_t k = 0; k < even; k += 2) step(k, both);
  if (even < depth) step(even, [](const uint16_t* from) { return int32_t(*from); });
}

// What is added to 16 sums and where they go.
inline void finish(const Product& it, __m512 sums, int64_t row, int64_t column, int64_t columns) {
  const __mmask16 there = first_16(columns);
  const int64_t place = row * it.out_stride + column;
  if (it.f32) {
    if (it.added) sums += _mm512_maskz_loadu_ps(there, static_cast<const float*>(it.added) + place);
    return _mm512_mask_storeu_ps(static_cast<float*>(it.out) + place, there, sums);
  }
  if (it.added) {
    const auto added = _mm256_maskz_loadu_epi16(there, at(it.added, place));
    sums += (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(added), 16);
  }
  const auto rounded = (__m256i)_mm512_cvtneps_pbh(sums);
  _mm256_mask_storeu_epi16(static_cast<uint16_t*>(it.out) + place, there, rounded);
}

// Rows [first, end) of a panel that is so many vectors wide.
template <int WIDE>
void multiply_wide(const Product& it, int64_t panel, const uint32_t* room, int64_t first, int64_t end) {
  const int64_t column = panel * PANEL;
  for (int64_t row = first; row < end; row += ROWS) {
    Sums sums;
#pragma GCC unroll 6
    for (int m = 0; m < ROWS; m++) {
#pragma GCC unroll 4
      for (int n = 0; n < WIDE; n++) sums[m][n] = _mm512_setzero_ps();
    }
    const uint32_t* packed = room;
    for (const Factors& part : it.parts) {
      // The last rows are computed more than once where there are not enough of them.
      const uint16_t* left[ROWS];
      for (int64_t m = 0; m < ROWS; m++) left[m] = at(part.left, least(row + m, end - 1) * part.left_stride);
      add<WIDE>(sums, left, part.depth, packed);
      packed += (part.depth + 1) / 2 * PANEL;
    }
#pragma GCC unroll 6
    for (int m = 0; m < ROWS; m++) {
      if (row + m >= end) break;
#pragma GCC unroll 4
      for (int n = 0; n < WIDE; n++) {
        finish(it, sums[m][n], row + m, column + n * LANES, it.columns - column - n * LANES);
      }
    }
  }
}

void multiply(const Product& it, int64_t panel, const uint32_t* room, int64_t first, int64_t end) {
  switch ((least(PANEL, it.columns - panel * PANEL) + LANES - 1) / LANES) {
    case 1:
      return multiply_wide<1>(it, panel, room, first, end);
    case 2:
      return multiply_wide<2>(it, panel, room, first, end);
    case 3:
      return multiply_wide<3>(it, panel, room, first, end);
    default:
      return multiply_wide<4>(it, panel, room, first, end);
  }
}

}  // namespace

namespace kernels {

extern const Products avx512_bf16;
const Products avx512_bf16 = {pack, multiply};

}  // namespace kernels
