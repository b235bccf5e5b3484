// The kernels with the instructions that this file is compiled for, as NEFTPIPE_LEVEL.

#include "attention.h"
#include "rowwise.h"
#include "thin.h"

namespace {

// The kernels take numbers of either format at pointers to anything: that is what a tensor hands out.
template <typename T>
constexpr kernels::Kernels of() {
  using kernels::Row;
  return {
      [](const Row& row, const void* qkv, void* mixed, float* sums, int64_t stride, float* room) {
        attend(row, (const T*)qkv, (T*)mixed, sums, stride, room);
      },
      [](const Row& row, const void* qkv, const void* mixed, const float* sums, int64_t stride, const void* dmixed,
         void* dqkv, float* room) {
        attend_backward(row, (const T*)qkv, (const T*)mixed, sums, stride, (const T*)dmixed, (T*)dqkv, room);
      },
      [](const float* x, const void* w, void* y, int64_t rows, int64_t width, float eps) {
        rms_norm(x, (const T*)w, (T*)y, rows, width, eps);
      },
      [](const float* dy, const void* dnormed, const float* x, const void* w, float* dx, int64_t rows, int64_t width,
         float eps) { rms_norm_backward(dy, (const T*)dnormed, x, (const T*)w, dx, rows, width, eps); },
      [](void* x, const float* cos, const float* sin, int64_t rows, int64_t width, int64_t heads, int64_t dim,
         float turn) { rotate((T*)x, cos, sin, rows, width, heads, dim, turn); },
      [](const void* both, void* inner, int64_t rows, int64_t width) { gate((const T*)both, (T*)inner, rows, width); },
      [](const void* both, const void* dinner, void* inner, void* dboth, int64_t rows, int64_t width) {
        gate_backward((const T*)both, (const T*)dinner, (T*)inner, (T*)dboth, rows, width);
      },
      [](const float* thin, const void* wide, int64_t wide_stride, float* out, int64_t out_stride, int64_t tokens,
         int64_t rank,
         int64_t columns) { thin_product(thin, (const T*)wide, wide_stride, out, out_stride, tokens, rank, columns); },
      [](void* logits, int64_t width, int64_t target, float scale, bool wants_slope) {
        return cross_entropy((T*)logits, width, target, scale, wants_slope);
      },
  };
}

}  // namespace

namespace kernels {

extern const Level NEFTPIPE_LEVEL;
const Level NEFTPIPE_LEVEL = {of<float>(), of<Bf16>()};

}  // namespace kernels
