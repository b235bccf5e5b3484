// Which of the compiled sets of kernels this processor takes.

#include "kernels.h"

namespace kernels {

extern const Level plain;

#if defined(__x86_64__)

extern const Level avx2, avx512;

const Level& level() {
  static const Level& widest = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") ? avx512
                               : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")        ? avx2
                                                                                                        : plain;
  return widest;
}

#else

const Level& level() { return plain; }

#endif

}  // namespace kernels
