// Which of the compiled sets of kernels are used: the widest that this processor has, unless a test asks for another.

#include "kernels.h"

#include <atomic>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace kernels {

extern const Level plain;

#if defined(__x86_64__)

extern const Level avx2, avx512;
extern const Products avx512_bf16;

static const Level* of(int64_t width) {
  switch (width) {
    case 0:
      return &plain;
    case 1:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &avx2 : nullptr;
    case 2:
      return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                     __builtin_cpu_supports("avx512vl")
                 ? &avx512
                 : nullptr;
    default:
      return nullptr;
  }
}

static bool has_amx() {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && d & bit_AMX_BF16;
}

static const Products* for_pairs() {
  return __builtin_cpu_supports("avx512bf16") && !has_amx() ? &avx512_bf16 : nullptr;
}

#else

static const Products* for_pairs() { return nullptr; }

static const Level* of(int64_t width) { return width == 0 ? &plain : nullptr; }

#endif

static const Level* widest() {
  const Level* found = nullptr;
  for (int64_t width = 0; width <= 2; width++) {
    if (const Level* here = of(width)) found = here;
  }
  return found;
}

static std::atomic<const Level*>& in_use() {
  static std::atomic<const Level*> level = widest();
  return level;
}

const Level& level() { return *in_use(); }

const Products* products() {
  static const Products* found = for_pairs();
  return in_use() == of(2) ? found : nullptr;
}

bool use_level(int64_t width) {
  const Level* found = of(width);
  if (found) in_use() = found;
  return found;
}

}  // namespace kernels
