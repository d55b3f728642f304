// The instructions of AMX that the packed kernel uses, in plain loops, for processors without them.
#ifndef NORMUON_TESTS_SUPPORT_EMULATED_AMX_HPP
#define NORMUON_TESTS_SUPPORT_EMULATED_AMX_HPP

#include <cmath>
#include <limits>

#include "normuon/backends/cpu/dispatch.hpp"

#if defined(__x86_64__)

namespace normuon::test {

// TDPBF16PS sums the even products of a row and a column, and the odd ones, by fused multiply-adds; then it adds both,
// and the result to the accumulator. What is subnormal counts as zero (Intel SDM). Registers and strides are
// those of amx_instructions::product.
struct emulated_amx {
  struct registers {};

  static void product(float* tile, index_t blocks, const bfloat16_pair* left, const bfloat16_pair* right, bool adds) {
    for (index_t i = 0; i < 32; ++i)
      for (index_t j = 0; j < 32; ++j) {
        float sum = adds ? tile[i * 32 + j] : 0;
        for (index_t b = 0; b < blocks; ++b) {
          float of[2] = {};
          for (index_t q = 0; q < 16; ++q)
            for (index_t k = 0; k < 2; ++k)
              of[k] = added(of[k], number(left[b * 512 + i * 16 + q], k), number(right[b * 512 + q * 32 + j], k));
          sum = normal(sum + normal(of[0] + of[1]));
        }
        tile[i * 32 + j] = sum;
      }
  }

 private:
  static constexpr float least = std::numeric_limits<float>::min();
  static float normal(float x) { return std::abs(x) < least ? std::copysign(0.0F, x) : x; }
  static float number(bfloat16_pair c, index_t k) { return normal(avx512_bf16_tile::number(c, k)); }
  // sum + x y, rounded once; only what is lost in a subnormal product needs a fused operation.
  static float added(float sum, float x, float y) {
    const float product = x * y;
    const bool is_exact = std::abs(product) >= least || x == 0 || y == 0;
    return normal(is_exact ? sum + product : std::fma(x, y, sum));
  }
};

using emulated_amx_tile = amx_tile<emulated_amx>;

}  // namespace normuon::test

#endif

#endif
