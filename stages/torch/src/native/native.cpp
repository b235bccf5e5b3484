// What tch does not bind: products by oneDNN with weights that are not trained, and the two halves of a block with a
// hand-written backward pass.
//
// Every function that Rust calls returns null where something failed and leaves the reason for `neftpipe_last_error`;
// no exception leaves this file. Tensors that are absent are null there.
// Axes: N tokens of all rows, H query heads, K key-value heads, G = H/K, T tokens of one row, D head dim, R ranks of
// all adapters of a product.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>

#include "kernels.h"

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;
using Maybe = std::optional<Tensor>;

// ---- Products -------------------------------------------------------------------------------------------------------

Tensor onednn_product(const Tensor& x, const Tensor& weight) {
  using Signature = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view,
                           c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
  return op.call(x, weight, std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), "");
}

Tensor onednn_product_plus(const Tensor& x, const Tensor& weight, const Tensor& added) {
  using Signature = Tensor(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view);
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "binary").typed<Signature>();
  return op.call(x, added, weight, std::nullopt, "add");
}

// Not every processor (bf16 needs AVX-512) and not every libtorch has these kernels: a small product tells.
bool tried_onednn(at::ScalarType kind) {
  try {
    const Tensor one = at::ones({1, 1}, kind);
    onednn_product(one, one);
    onednn_product_plus(one, one, one);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

bool has_onednn(const Tensor& x) {
  if (!x.device().is_cpu()) return false;
  static const bool f32 = tried_onednn(at::kFloat);
  static const bool bf16 = tried_onednn(at::kBFloat16);
  return x.scalar_type() == at::kFloat ? f32 : x.scalar_type() == at::kBFloat16 && bf16;
}

// Below this many rows the packing of weights takes longer than it saves.
constexpr int64_t FEWEST_ROWS = 16;

bool has_pairs(const Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == at::kBFloat16 && kernels::products() && x.dim() == 2 &&
         x.size(0) >= FEWEST_ROWS;
}

// x [rows, depth] and weight [columns, depth], of which either axis may be the inner one in memory.
kernels::Factors factors(const Tensor& x, const Tensor& weight) {
  const bool by_column = weight.stride(1) == 1;
  TORCH_CHECK(x.stride(1) == 1 && (by_column || weight.stride(0) == 1), "the factors of a product lie in order");
  return {x.const_data_ptr(), x.stride(0), weight.const_data_ptr(), weight.stride(by_column ? 0 : 1),
          x.size(1),          by_column};
}

// Shares a product out among threads: panels of columns, and of each panel the blocks of rows, cut until all threads
// have the same to do or nearly so.
void multiply(const kernels::Product& it) {
  const auto& by = *kernels::products();
  const int64_t panels = (it.columns + kernels::PANEL - 1) / kernels::PANEL, threads = at::get_num_threads();
  const int64_t blocks = (it.rows + kernels::PRODUCT_ROWS - 1) / kernels::PRODUCT_ROWS;
  int64_t cuts = 1;
  while (panels * cuts % threads != 0 && panels * cuts < 8 * threads && cuts < blocks / 8) cuts++;
  at::parallel_for(0, panels * cuts, 1, [&](int64_t first, int64_t end) {
    thread_local std::vector<uint32_t> room;
    room.resize(std::max<size_t>(room.size(), kernels::room_for(it)));
    int64_t packed = -1;
    for (int64_t task = first; task < end; task++) {
      const int64_t panel = task / cuts, cut = task % cuts;
      if (panel != packed) by.pack(it, panel, room.data());
      packed = panel;
      const auto row = [&](int64_t cut) { return std::min(blocks * cut / cuts * kernels::PRODUCT_ROWS, it.rows); };
      by.multiply(it, panel, room.data(), row(cut), row(cut + 1));
    }
  });
}

// x·Wᵀ; plus low·Bᵀ and what is added, where they are defined: in the format of what is added, else of x. In bf16 the
// sum is rounded once where the processor multiplies pairs, and low·Bᵀ by itself elsewhere.
Tensor product(const Tensor& x, const Tensor& weight, const Tensor& low = {}, const Tensor& b = {},
               const Tensor& added = {}) {
  const auto format = added.defined() ? added.scalar_type() : x.scalar_type();
  if (has_pairs(x)) {
    const Tensor y = at::empty({x.size(0), weight.size(0)}, x.options().dtype(format));
    const auto second = low.defined() ? factors(low, b) : kernels::Factors{};
    multiply({y.size(0),
              y.size(1),
              {factors(x, weight), second},
              added.defined() ? added.const_data_ptr() : nullptr,
              y.mutable_data_ptr(),
              y.stride(0),
              format == at::kFloat});
    return y;
  }
  if (format != x.scalar_type()) return product(x, weight, low, b).to(format).add_(added);
  const bool here = has_onednn(x);
  Tensor also = added;
  if (low.defined()) also = product(low, b, {}, {}, added);
  if (!also.defined()) return here ? onednn_product(x, weight) : at::linear(x, weight);
  return here ? onednn_product_plus(x, weight, also) : at::addmm(also, x, weight.t());
}

// x·Wᵀ, plus what is added, for a weight that is not trained.
struct FrozenProduct : Function<FrozenProduct> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Maybe& added) {
    ctx->save_for_backward({weight});
    ctx->saved_data["added"] = added.has_value();
    return product(x.contiguous(), weight, {}, {}, added ? added->contiguous() : Tensor());
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& received) {
    const Tensor dy = received[0].contiguous();
    const Tensor dx = ctx->needs_input_grad(0) ? product(dy, ctx->get_saved_variables()[0].t()) : Tensor();
    return {dx, Tensor(), ctx->saved_data["added"].toBool() ? dy : Tensor()};
  }
};

// ---- Kernels --------------------------------------------------------------------------------------------------------

const kernels::Kernels& kernels_for(const Tensor& x) {
  TORCH_CHECK(x.is_contiguous() && x.device().is_cpu(), "a block is computed on the CPU, in order");
  if (x.scalar_type() == at::kFloat) return kernels::level().f32;
  TORCH_CHECK(x.scalar_type() == at::kBFloat16, "a block is computed in f32 or bf16, not in ", x.scalar_type());
  return kernels::level().bf16;
}

// Tokens that are worth a thread.
constexpr int64_t GRAIN = 16;

// Numbers of a tensor [N, width] from row `row` on, or from a place in it.
struct Numbers {
  const Tensor& of;

  const void* from(int64_t row, int64_t column) const {
    return static_cast<const char*>(of.const_data_ptr()) + (row * of.size(1) + column) * of.element_size();
  }
  const void* operator[](int64_t row) const { return from(row, 0); }
  void* at(int64_t row) const { return const_cast<void*>((*this)[row]); }
};

// Rows of the residual stream or its gradient from `row` on: [N, hidden] in f32 whatever the weights' format, so that
// what each half adds to it is not lost in its rounding.
const float* stream(const Tensor& x, int64_t row) { return x.const_data_ptr<float>() + row * x.size(1); }

// ---- Projections with adapters --------------------------------------------------------------------------------------

// Where a projection's adapter stands among those of one product: its first output and how many, its first rank and how
// many (none where it has no adapter).
struct Place {
  int64_t output, outputs, low, rank;
};

struct Gradients {
  Tensor a, b;
};

// Projections of one input as a single product: y = x·Wᵀ + (x·Aᵀ)·(s·B)ᵀ, rows of W and y by projection; A of all
// adapters one below the other [R, in], s·B of each on the diagonal of [out, R].
//
// The adapters' part is added to the accumulated product before it is rounded: in bf16 it would else be lost wherever
// it is smaller than half a unit in the last place of x·Wᵀ.
class Adapted {
 public:
  Tensor weight, a, b;

  // adapters: A [rank, in] and B [outputs, rank] of each, as trained; undefined where it has none.
  Adapted(const Tensor& weight, const variable_list& adapters, const std::vector<int64_t>& outputs, double scaling)
      : weight(weight), scaling_(scaling) {
    int64_t output = 0, ranks = 0;
    for (size_t i = 0; i < outputs.size(); i++) {
      const Tensor& it = adapters[2 * i];
      const int64_t rank = it.defined() ? it.size(0) : 0;
      places_.push_back({output, outputs[i], ranks, rank});
      output += outputs[i];
      ranks += rank;
    }
    if (ranks == 0) return;
    a = at::empty({ranks, weight.size(1)}, weight.options());
    b = at::zeros({output, ranks}, weight.options());
    for (size_t i = 0; i < places_.size(); i++) {
      const auto& [output, outputs, low, rank] = places_[i];
      if (rank == 0) continue;
      a.narrow(0, low, rank).copy_(adapters[2 * i]);
      b.narrow(0, output, outputs).narrow(1, low, rank).copy_(adapters[2 * i + 1] * scaling);
    }
  }

  // As kept by a forward pass.
  Adapted(const Tensor& weight, const Tensor& a, const Tensor& b, const std::vector<int64_t>& places, double scaling)
      : weight(weight), a(a), b(b), scaling_(scaling) {
    for (size_t i = 0; i < places.size(); i += 4) {
      places_.push_back({places[i], places[i + 1], places[i + 2], places[i + 3]});
    }
  }

  std::vector<int64_t> places() const {
    std::vector<int64_t> all;
    for (const Place& it : places_) all.insert(all.end(), {it.output, it.outputs, it.low, it.rank});
    return all;
  }

  // y [N, out], plus what is added if that is defined; leaves x·Aᵀ [N, R] in `low` for the backward pass.
  Tensor forward(const Tensor& x, Tensor& low, const Tensor& added = {}) const {
    if (a.defined()) low = product(x, a);
    return product(x, weight, low, b, added);
  }

  // The gradients of x [N, in] and of x·Aᵀ [N, R], from that of y.
  Tensor backward(const Tensor& dy, Tensor& dlow, bool wants_input) const {
    if (a.defined()) dlow = product(dy, b.t());
    if (!wants_input) return {};
    return product(dy, weight.t(), dlow, a.defined() ? a.t() : Tensor());
  }

  // The gradients of each projection's adapter, in f32.
  std::vector<Gradients> gradients(const Tensor& x, const Tensor& dy, const Tensor& low, const Tensor& dlow) const {
    std::vector<Gradients> found;
    for (const auto& [output, outputs, first, rank] : places_) {
      if (rank == 0) {
        found.push_back({});
        continue;
      }
      const Tensor da = thin_product(dlow.narrow(1, first, rank), x, 0, x.size(1));
      const Tensor db = thin_product(low.narrow(1, first, rank), dy, output, outputs).mul_(scaling_);
      found.push_back({da, db.t()});
    }
    return found;
  }

 private:
  // thinᵀ · wide [rank, columns] over all tokens, of columns of `wide` from `first` on.
  static Tensor thin_product(const Tensor& thin, const Tensor& wide, int64_t first, int64_t columns) {
    constexpr int64_t STRIP = 64;
    const int64_t tokens = thin.size(0), rank = thin.size(1), filled = kernels::rounded_up(rank, 8);
    const auto numbers = thin.options().dtype(at::kFloat);
    if (has_pairs(thin)) {
      const Tensor left = thin.t().contiguous(), out = at::empty({rank, columns}, numbers);
      const void* right = Numbers{wide}.from(0, first);
      const kernels::Factors part{left.const_data_ptr(), tokens, right, wide.size(1), tokens, false};
      multiply({rank, columns, {part, {}}, nullptr, out.mutable_data_ptr(), columns, true});
      return out;
    }
    Tensor left = at::zeros({tokens, filled}, numbers);
    left.narrow(1, 0, rank).copy_(thin);
    const Tensor out = at::empty({filled, columns}, numbers);
    const auto& kernel = kernels_for(wide);
    at::parallel_for(0, (columns + STRIP - 1) / STRIP, 1, [&](int64_t from, int64_t to) {
      const int64_t start = from * STRIP, count = std::min(to * STRIP, columns) - start;
      kernel.thin_product(left.const_data_ptr<float>(), Numbers{wide}.from(0, first + start), wide.size(1),
                          out.mutable_data_ptr<float>() + start, columns, tokens, filled, count);
    });
    return out.narrow(0, 0, rank);
  }

  std::vector<Place> places_;
  double scaling_;
};

// Undefined tensors for absent ones.
variable_list present(const std::vector<Maybe>& tensors) {
  variable_list all;
  for (const Maybe& it : tensors) all.push_back(it.value_or(Tensor()));
  return all;
}

// ---- Norm, rotation, gating and attention ---------------------------------------------------------------------------

// x · w / √(mean(x²) + eps) over the last axis of [N, width].
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  const Tensor y = at::empty(x.sizes(), weight.options());
  const auto& kernel = kernels_for(y);
  at::parallel_for(0, x.size(0), GRAIN, [&](int64_t first, int64_t end) {
    kernel.rms_norm(stream(x, first), weight.const_data_ptr(), Numbers{y}.at(first), end - first, x.size(1), eps);
  });
  return y;
}

// The gradient of x where y = x + f(norm(x)), from those of y and of norm(x).
Tensor input_gradient(const Tensor& dy, const Tensor& dnormed, const Tensor& x, const Tensor& norm, double eps) {
  const Tensor dx = at::empty_like(x);
  const auto& kernel = kernels_for(dnormed);
  at::parallel_for(0, x.size(0), GRAIN, [&](int64_t first, int64_t end) {
    kernel.rms_norm_backward(stream(dy, first), Numbers{dnormed}[first], stream(x, first), norm.const_data_ptr(),
                             dx.mutable_data_ptr<float>() + first * x.size(1), end - first, x.size(1), eps);
  });
  return dx;
}

// silu(gate)∘up of [N, 2·inner] that hold gate and then up.
Tensor gated(const Tensor& both) {
  const Tensor inner = at::empty({both.size(0), both.size(1) / 2}, both.options());
  const auto& kernel = kernels_for(both);
  at::parallel_for(0, both.size(0), GRAIN, [&](int64_t first, int64_t end) {
    kernel.gate(Numbers{both}[first], Numbers{inner}.at(first), end - first, inner.size(1));
  });
  return inner;
}

// The gradient of gate and up from that of silu(gate)∘up, which comes out once more as `inner`.
Tensor gated_backward(const Tensor& dinner, const Tensor& both, Tensor& inner) {
  const Tensor dboth = at::empty_like(both);
  inner = at::empty_like(dinner);
  const auto& kernel = kernels_for(both);
  at::parallel_for(0, both.size(0), GRAIN, [&](int64_t first, int64_t end) {
    kernel.gate_backward(Numbers{both}[first], Numbers{dinner}[first], Numbers{inner}.at(first),
                         Numbers{dboth}.at(first), end - first, inner.size(1));
  });
  return dboth;
}

// How rows lie one after the other, and heads in a row; and the keys and values [K, T, D] that stand before every row,
// where they are defined.
struct Layout {
  std::vector<int64_t> lengths;
  kernels::Heads heads;
  Tensor keys, values;

  kernels::Before before(int64_t key_head) const {
    if (!keys.defined()) return {};
    const auto of = [&](const Tensor& it) {
      return static_cast<const char*>(it.const_data_ptr()) + key_head * it.stride(0) * it.element_size();
    };
    return {keys.size(1), of(keys), of(values)};
  }
};

// Turns queries and keys of [N, width] in place by angles [N, D/2]; `turn` is −1 for the way back.
void rotate_(const Tensor& qkv, const Tensor& cos, const Tensor& sin, const kernels::Heads& heads, float turn) {
  const auto& kernel = kernels_for(qkv);
  at::parallel_for(0, qkv.size(0), GRAIN, [&](int64_t first, int64_t end) {
    kernel.rotate(Numbers{qkv}.at(first), cos.const_data_ptr<float>() + first * heads.dim / 2,
                  sin.const_data_ptr<float>() + first * heads.dim / 2, end - first, qkv.size(1),
                  heads.queries + heads.keys, heads.dim, turn);
  });
}

// Calls with each row's first token and a key head, and room for it; threads take what is next.
template <typename Act>
void for_each_key_head(const Layout& layout, Act act) {
  std::vector<std::pair<int64_t, kernels::Row>> work;
  int64_t start = 0;
  for (int64_t tokens : layout.lengths) {
    for (int64_t head = 0; head < layout.heads.keys; head++) {
      work.push_back({start, {layout.heads, tokens, head, layout.before(head)}});
    }
    start += tokens;
  }
  std::atomic<size_t> next = 0;
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    thread_local std::vector<float> room;
    for (size_t at = next++; at < work.size(); at = next++) {
      const auto& [first, row] = work[at];
      room.resize(std::max<size_t>(room.size(), kernels::room_for(row)));
      act(first, row, room.data());
    }
  });
}

// Causal attention of each row by itself: qkv [N, width] to [N, H·D]. The logarithms of the sums go to `sums` [H, N].
Tensor attend(const Tensor& qkv, const Layout& layout, Tensor& sums) {
  const auto& [queries, keys, dim] = layout.heads;
  const int64_t tokens = qkv.size(0), group = queries / keys;
  const Tensor mixed = at::empty({tokens, queries * dim}, qkv.options());
  sums = at::empty({queries, tokens}, qkv.options().dtype(at::kFloat));
  const auto& kernel = kernels_for(qkv);
  float* each = sums.mutable_data_ptr<float>();
  for_each_key_head(layout, [&](int64_t first, const kernels::Row& row, float* room) {
    kernel.attend(row, Numbers{qkv}[first], Numbers{mixed}.at(first), each + row.key_head * group * tokens + first,
                  tokens, room);
  });
  return mixed;
}

// The gradient of qkv from that of the mixed values.
Tensor attend_backward(const Tensor& dmixed, const Tensor& qkv, const Tensor& mixed, const Tensor& sums,
                       const Layout& layout) {
  const Tensor dqkv = at::empty_like(qkv);
  const int64_t tokens = qkv.size(0), group = layout.heads.queries / layout.heads.keys;
  const auto& kernel = kernels_for(qkv);
  const float* each = sums.const_data_ptr<float>();
  for_each_key_head(layout, [&](int64_t first, const kernels::Row& row, float* room) {
    kernel.attend_backward(row, Numbers{qkv}[first], Numbers{mixed}[first],
                           each + row.key_head * group * tokens + first, tokens, Numbers{dmixed}[first],
                           Numbers{dqkv}.at(first), room);
  });
  return dqkv;
}

// x + o(attention(norm(x))). Of each token it keeps x, the rotated queries and keys, the values and the mixed values.
// `seen` gets the rotated queries and keys and the values [N, width] where it is not null.
struct AttentionHalf : Function<AttentionHalf> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& norm, const Tensor& qkv_weight,
                        const Maybe& aq, const Maybe& bq, const Maybe& ak, const Maybe& bk, const Maybe& av,
                        const Maybe& bv, const Tensor& o_weight, const Maybe& ao, const Maybe& bo, const Tensor& cos,
                        const Tensor& sin, Layout layout, double eps, double scaling, Tensor* seen) {
    const auto [queries, keys, dim] = layout.heads;
    const Adapted read(qkv_weight, present({aq, bq, ak, bk, av, bv}), {queries * dim, keys * dim, keys * dim}, scaling);
    const Adapted write(o_weight, present({ao, bo}), {o_weight.size(0)}, scaling);
    Tensor low, low_o, sums;
    const Tensor qkv = read.forward(rms_norm(x, norm, eps), low);
    rotate_(qkv, cos, sin, layout.heads, 1);
    const Tensor mixed = attend(qkv, layout, sums);
    *seen = qkv;
    const Tensor y = write.forward(mixed, low_o, x);
    ctx->save_for_backward(
        {x, norm, qkv_weight, read.a, read.b, o_weight, write.a, write.b, cos, sin, low, low_o, qkv, mixed, sums});
    ctx->saved_data["lengths"] = layout.lengths;
    ctx->saved_data["heads"] = std::vector<int64_t>{queries, keys, dim};
    ctx->saved_data["reads"] = read.places();
    ctx->saved_data["writes"] = write.places();
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["scaling"] = scaling;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& received) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &norm = saved[1], &cos = saved[8], &sin = saved[9], &low = saved[10],
                 &low_o = saved[11], &qkv = saved[12], &mixed = saved[13], &sums = saved[14];
    const auto numbers = [&](const char* name) { return ctx->saved_data[name].toIntVector(); };
    const auto heads = numbers("heads");
    const Layout layout{numbers("lengths"), {heads[0], heads[1], heads[2]}, {}, {}};
    const double eps = ctx->saved_data["eps"].toDouble(), scaling = ctx->saved_data["scaling"].toDouble();
    const Adapted read(saved[2], saved[3], saved[4], numbers("reads"), scaling);
    const Adapted write(saved[5], saved[6], saved[7], numbers("writes"), scaling);
    const Tensor dy = received[0].contiguous();

    Tensor dlow_o, dlow;
    const Tensor written = dy.to(mixed.scalar_type());
    const Tensor dmixed = write.backward(written, dlow_o, true);
    const auto found_o = write.gradients(mixed, written, low_o, dlow_o);
    const Tensor dqkv = attend_backward(dmixed, qkv, mixed, sums, layout);
    rotate_(dqkv, cos, sin, layout.heads, -1);

    const bool wants_input = ctx->needs_input_grad(0);
    const Tensor dnormed = read.backward(dqkv, dlow, wants_input);
    const auto found = read.gradients(rms_norm(x, norm, eps), dqkv, low, dlow);
    const Tensor dx = wants_input ? input_gradient(dy, dnormed, x, norm, eps) : Tensor();
    const Tensor none;
    return {dx,   none,         none,         found[0].a, found[0].b, found[1].a, found[1].b, found[2].a, found[2].b,
            none, found_o[0].a, found_o[0].b, none,       none,       none,       none,       none,       none};
  }
};

// ---- Feed-forward ---------------------------------------------------------------------------------------------------

// x + down(silu(gate(norm(x)))∘up(norm(x))). Of each token it keeps x, gate and up.
struct MlpHalf : Function<MlpHalf> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& norm, const Tensor& gate_up_weight,
                        const Maybe& ag, const Maybe& bg, const Maybe& au, const Maybe& bu, const Tensor& down_weight,
                        const Maybe& ad, const Maybe& bd, double eps, double scaling) {
    const int64_t inner = down_weight.size(1);
    const Adapted read(gate_up_weight, present({ag, bg, au, bu}), {inner, inner}, scaling);
    const Adapted write(down_weight, present({ad, bd}), {down_weight.size(0)}, scaling);
    Tensor low, low_d;
    const Tensor both = read.forward(rms_norm(x, norm, eps), low);
    const Tensor y = write.forward(gated(both), low_d, x);
    ctx->save_for_backward({x, norm, gate_up_weight, read.a, read.b, down_weight, write.a, write.b, low, low_d, both});
    ctx->saved_data["reads"] = read.places();
    ctx->saved_data["writes"] = write.places();
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["scaling"] = scaling;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& received) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &norm = saved[1], &low = saved[8], &low_d = saved[9], &both = saved[10];
    const auto numbers = [&](const char* name) { return ctx->saved_data[name].toIntVector(); };
    const double eps = ctx->saved_data["eps"].toDouble(), scaling = ctx->saved_data["scaling"].toDouble();
    const Adapted read(saved[2], saved[3], saved[4], numbers("reads"), scaling);
    const Adapted write(saved[5], saved[6], saved[7], numbers("writes"), scaling);
    const Tensor dy = received[0].contiguous();

    Tensor dlow_d, dlow, inner;
    const Tensor written = dy.to(both.scalar_type());
    const Tensor dboth = gated_backward(write.backward(written, dlow_d, true), both, inner);
    const auto found_d = write.gradients(inner, written, low_d, dlow_d);

    const bool wants_input = ctx->needs_input_grad(0);
    const Tensor dnormed = read.backward(dboth, dlow, wants_input);
    const auto found = read.gradients(rms_norm(x, norm, eps), dboth, low, dlow);
    const Tensor dx = wants_input ? input_gradient(dy, dnormed, x, norm, eps) : Tensor();
    const Tensor none;
    return {dx,         none, none,         found[0].a,   found[0].b, found[1].a,
            found[1].b, none, found_d[0].a, found_d[0].b, none,       none};
  }
};

// ---- Losses and the optimizer ---------------------------------------------------------------------------------------

// Cross-entropies [S] of logits [S, V] against targets [S]; the logits become `scale` times their slopes where wanted.
Tensor cross_entropies(const Tensor& logits, const Tensor& targets, double scale, bool wants_slopes) {
  const Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
  const auto& kernel = kernels_for(logits);
  const int64_t width = logits.size(1);
  const int64_t* target = targets.const_data_ptr<int64_t>();
  float* each = losses.mutable_data_ptr<float>();
  at::parallel_for(0, logits.size(0), 1, [&](int64_t first, int64_t end) {
    for (int64_t at = first; at < end; at++) {
      TORCH_CHECK(target[at] >= 0 && target[at] < width, "the target ", target[at], " is no word of ", width);
      each[at] = kernel.cross_entropy(Numbers{logits}.at(at), width, target[at], float(scale), wants_slopes);
    }
  });
  return losses;
}

// ---- The border -----------------------------------------------------------------------------------------------------

thread_local std::string last_error;

Maybe given(const Tensor* tensor) { return tensor ? Maybe(*tensor) : std::nullopt; }

template <typename Make>
Tensor* guarded(Make make) {
  try {
    return new Tensor(make());
  } catch (const c10::Error& error) {
    last_error = error.what_without_backtrace();
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "an exception that says nothing";
  }
  return nullptr;
}

}  // namespace

extern "C" {

const char* neftpipe_last_error() { return last_error.c_str(); }

// cuBLAS keeps to one order of sums only where it is told the size of its workspace before it starts.
void neftpipe_be_deterministic() {
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
  at::globalContext().setDeterministicAlgorithms(true, false);
  at::globalContext().setDeterministicFillUninitializedMemory(false);
}

Tensor* neftpipe_cross_entropies(const Tensor* logits, const Tensor* targets, double scale, bool wants_slopes) {
  return guarded([&] { return cross_entropies(*logits, *targets, scale, wants_slopes); });
}

// One step of PyTorch's fused AdamW over `count` weights with their gradients and moments; false where it is refused.
bool neftpipe_adamw(const Tensor* const* weights, const Tensor* const* gradients, const Tensor* const* means,
                    const Tensor* const* squares, size_t count, double step, double learning_rate, const double* betas,
                    double weight_decay, double eps) {
  const auto list = [&](const Tensor* const* from) {
    std::vector<Tensor> all;
    for (size_t i = 0; i < count; i++) all.push_back(*from[i]);
    return all;
  };
  const std::unique_ptr<Tensor> done(guarded([&] {
    const at::NoGradGuard no_gradients;
    const Tensor number = at::full({}, step, weights[0]->options().dtype(at::kFloat));
    at::_fused_adamw_(list(weights), list(gradients), list(means), list(squares), {},
                      std::vector<Tensor>(count, number), learning_rate, betas[0], betas[1], weight_decay, eps, false,
                      false);
    return number;
  }));
  return done != nullptr;
}

// The values on a GPU, from pinned memory: the copy is queued and the host goes on.
Tensor* neftpipe_to_gpu(const Tensor* values, int64_t index) {
  return guarded([&] {
    const at::Device gpu(at::kCUDA, static_cast<c10::DeviceIndex>(index));
    return values->pin_memory().to(gpu, values->scalar_type(), /*non_blocking=*/true);
  });
}

bool neftpipe_use_level(int64_t width) { return kernels::use_level(width); }

// -1 where there is no such GPU.
int64_t neftpipe_gpu_peak_bytes(int64_t index) {
  try {
    const auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(static_cast<c10::DeviceIndex>(index));
    return stats.reserved_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
  } catch (const std::exception&) {
    return -1;
  }
}

Tensor* neftpipe_product(const Tensor* x, const Tensor* weight, const Tensor* added) {
  return guarded([&] { return FrozenProduct::apply(*x, *weight, given(added)); });
}

// adapters: A and B of q, k, v and o. heads: H, K, D. before: keys and values of what stands before every row, or null;
// without gradients. `seen` gets what AttentionHalf says.
Tensor* neftpipe_attention_half(const Tensor* x, const Tensor* norm, const Tensor* qkv, const Tensor* o,
                                const Tensor* const* adapters, const Tensor* cos, const Tensor* sin,
                                const int64_t* lengths, size_t rows, const int64_t* heads, const Tensor* const* before,
                                double eps, double scaling, Tensor** seen) {
  return guarded([&] {
    Layout layout{{lengths, lengths + rows}, {heads[0], heads[1], heads[2]}, {}, {}};
    if (before[0]) {
      TORCH_CHECK(!at::GradMode::is_enabled(), "what stands before rows has no gradients");
      const auto shape = {heads[1], before[0]->size(1), heads[2]};
      for (int at = 0; at < 2; at++) {
        const bool fits = before[at]->sizes() == shape && before[at]->scalar_type() == qkv->scalar_type();
        TORCH_CHECK(fits && before[at]->is_contiguous(),
                    "what stands before rows is [K, T, D], in the weights' format");
      }
      layout.keys = *before[0];
      layout.values = *before[1];
    }
    const auto adapter = [&](int i) { return given(adapters[i]); };
    Tensor inside;
    Tensor y = AttentionHalf::apply(*x, *norm, *qkv, adapter(0), adapter(1), adapter(2), adapter(3), adapter(4),
                                    adapter(5), *o, adapter(6), adapter(7), *cos, *sin, layout, eps, scaling, &inside);
    *seen = new Tensor(inside);
    return y;
  });
}

// adapters: A and B of gate, up and down.
Tensor* neftpipe_mlp_half(const Tensor* x, const Tensor* norm, const Tensor* gate_up, const Tensor* down,
                          const Tensor* const* adapters, double eps, double scaling) {
  return guarded([&] {
    const auto adapter = [&](int i) { return given(adapters[i]); };
    return MlpHalf::apply(*x, *norm, *gate_up, adapter(0), adapter(1), adapter(2), adapter(3), *down, adapter(4),
                          adapter(5), eps, scaling);
  });
}

}  // extern "C"
