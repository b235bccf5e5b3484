// 16 numbers side by side, in f32, computed with the vectors that the compiler may use.
//
// It is compiled once for each set of instructions (`level.cpp`), and the linker must not let two of them share a
// function: all is in unnamed namespaces, and no templates of the standard library are used here or in what uses this.

#pragma once

#include <cstdint>
#include <cstring>

namespace {

constexpr int64_t COUNT = 16;

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t HalfWords __attribute__((vector_size(32)));

// The upper half of an f32.
struct Bf16 {
  uint16_t bits;
};

inline Floats all(float v) { return Floats{v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v}; }

inline Floats load(const float* from) {
  Floats it;
  std::memcpy(&it, from, sizeof it);
  return it;
}

inline Floats load(const Bf16* from) {
  HalfWords halves;
  std::memcpy(&halves, from, sizeof halves);
  return (Floats)(__builtin_convertvector(halves, Words) << 16);
}

inline void store(Floats it, float* to) { std::memcpy(to, &it, sizeof it); }

// Rounds half to even; what is no number stays none.
inline void store(Floats it, Bf16* to) {
  const Words bits = (Words)it;
  const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const HalfWords halves = __builtin_convertvector(it == it ? rounded : Words{} + 0x7fc0, HalfWords);
  std::memcpy(to, &halves, sizeof halves);
}

// The first `count` of them, `after` in the places of the others.
template <typename T>
inline Floats load(const T* from, int64_t count, float after = 0) {
  if (count >= COUNT) return load(from);
  T some[COUNT] = {};
  for (int64_t i = 0; i < count; i++) some[i] = from[i];
  Floats it = load(some);
  for (int64_t i = count; i < COUNT; i++) it[i] = after;
  return it;
}

template <typename T>
inline void store(Floats it, T* to, int64_t count) {
  if (count >= COUNT) return store(it, to);
  T some[COUNT];
  store(it, some);
  for (int64_t i = 0; i < count; i++) to[i] = some[i];
}

inline float sum(Floats it) {
  float total = 0;
  for (int64_t i = 0; i < COUNT; i++) total += it[i];
  return total;
}

inline float largest(Floats it) {
  float most = it[0];
  for (int64_t i = 1; i < COUNT; i++) most = it[i] > most ? it[i] : most;
  return most;
}

// exp(x) to 2 units in the last place: 2ⁿ·exp(r) with r = x − n·ln 2, |r| ≤ ln 2/2, and the polynomial of Cephes'
// `expf` for exp(r). Below −87 it is 0; above 88 it stays at what 88 gives.
inline Floats exp(Floats x) {
  const Floats bounded = x > 88.0f ? all(88.0f) : x < -87.0f ? all(-87.0f) : x;
  constexpr float TO_NEAREST = 12582912.0f;  // 1.5·2²³: what is added to it is rounded to a whole number
  const Floats n = (bounded * 1.44269504f + TO_NEAREST) - TO_NEAREST;
  const Floats r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
  const Floats found = p * (Floats)power;
  return x < -87.0f ? Floats{} : found;
}

}  // namespace
