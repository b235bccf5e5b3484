// Norms, rotation, gating and cross-entropy: what looks at one token at a time.

#pragma once

#include "lanes.h"

namespace {

// 1/√(mean(x²) + eps).
inline float inverse_root_mean_square(const float* x, int64_t width, float eps) {
  Floats squares = {};
  for (int64_t i = 0; i < width; i += COUNT) {
    const Floats here = load(x + i, width - i);
    squares += here * here;
  }
  return 1 / __builtin_sqrtf(sum(squares) / float(width) + eps);
}

template <typename T>
void rms_norm(const float* x, const T* w, T* y, int64_t rows, int64_t width, float eps) {
  for (int64_t row = 0; row < rows; row++, x += width, y += width) {
    const float r = inverse_root_mean_square(x, width, eps);
    for (int64_t i = 0; i < width; i += COUNT) {
      store(load(x + i, width - i) * r * load(w + i, width - i), y + i, width - i);
    }
  }
}

// With r = 1/√(mean(x²) + eps) and g = w∘dnormed: dx = dy + r·g − x·r³·(g·x)/width.
template <typename T>
void rms_norm_backward(const float* dy, const T* dnormed, const float* x, const T* w, float* dx, int64_t rows,
                       int64_t width, float eps) {
  for (int64_t row = 0; row < rows; row++, dy += width, dnormed += width, x += width, dx += width) {
    const float r = inverse_root_mean_square(x, width, eps);
    Floats dots = {};
    for (int64_t i = 0; i < width; i += COUNT) {
      dots += load(dnormed + i, width - i) * load(w + i, width - i) * load(x + i, width - i);
    }
    const float back = r * r * r * sum(dots) / float(width);
    for (int64_t i = 0; i < width; i += COUNT) {
      const int64_t left = width - i;
      const Floats g = load(dnormed + i, left) * load(w + i, left);
      store(load(dy + i, left) + g * r - load(x + i, left) * back, dx + i, left);
    }
  }
}

template <typename T>
void rotate(T* x, const float* cos, const float* sin, int64_t rows, int64_t width, int64_t heads, int64_t dim,
            float turn) {
  const int64_t half = dim / 2;
  for (int64_t row = 0; row < rows; row++, x += width, cos += half, sin += half) {
    for (int64_t head = 0; head < heads; head++) {
      T *a = x + head * dim, *b = a + half;
      for (int64_t i = 0; i < half; i += COUNT) {
        const int64_t left = half - i;
        const Floats c = load(cos + i, left), s = load(sin + i, left) * turn;
        const Floats first = load(a + i, left), second = load(b + i, left);
        store(first * c - second * s, a + i, left);
        store(second * c + first * s, b + i, left);
      }
    }
  }
}

Floats sigmoid(Floats x) { return 1.0f / (1.0f + exp(-x)); }

template <typename T>
void gate(const T* both, T* inner, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; row++, both += 2 * width, inner += width) {
    for (int64_t i = 0; i < width; i += COUNT) {
      const int64_t left = width - i;
      const Floats g = load(both + i, left);
      store(g * sigmoid(g) * load(both + width + i, left), inner + i, left);
    }
  }
}

// silu(g) = g·σ(g), its slope σ(g)·(1 + g·(1 − σ(g))).
template <typename T>
void gate_backward(const T* both, const T* dinner, T* inner, T* dboth, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; row++, both += 2 * width, dboth += 2 * width, inner += width, dinner += width) {
    for (int64_t i = 0; i < width; i += COUNT) {
      const int64_t left = width - i;
      const Floats g = load(both + i, left), up = load(both + width + i, left), d = load(dinner + i, left);
      const Floats s = sigmoid(g), silu = g * s;
      store(silu * up, inner + i, left);
      store(d * up * s * (1.0f + g * (1.0f - s)), dboth + i, left);
      store(d * silu, dboth + width + i, left);
    }
  }
}

// With z the logits: logsumexp(z) − z[target]. Where a slope is wanted, z becomes scale·(softmax(z) − onehot(target)).
template <typename T>
float cross_entropy(T* logits, int64_t width, int64_t target, float scale, bool wants_slope) {
  Floats most = all(-__builtin_inff());
  for (int64_t i = 0; i < width; i += COUNT) {
    const Floats here = load(logits + i, width - i, -__builtin_inff());
    most = here > most ? here : most;
  }
  const float base = largest(most);
  Floats sums = {};
  for (int64_t i = 0; i < width; i += COUNT) sums += exp(load(logits + i, width - i, -__builtin_inff()) - base);
  const float total = base + __builtin_logf(sum(sums));
  const float chosen = load(logits + target, 1)[0];
  if (wants_slope) {
    for (int64_t i = 0; i < width; i += COUNT) {
      store(exp(load(logits + i, width - i) - total) * scale, logits + i, width - i);
    }
    store(all((__builtin_expf(chosen - total) - 1) * scale), logits + target, 1);
  }
  return total - chosen;
}

}  // namespace
