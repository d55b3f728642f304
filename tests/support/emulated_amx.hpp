// The instructions of AMX that the packed kernel uses, in plain loops, for processors without them.
#ifndef NORMUON_TESTS_SUPPORT_EMULATED_AMX_HPP
#define NORMUON_TESTS_SUPPORT_EMULATED_AMX_HPP

#include "normuon/backends/cpu/dispatch.hpp"

#if defined(__x86_64__)

namespace normuon::test {

// TDPBF16PS adds, for each pair along k, first the even product and then the odd one, each rounded to a float; what is
// subnormal counts as zero (Intel SDM). Registers and strides are those of amx_instructions::product.
struct emulated_amx {
  static void product(float* tile, index_t blocks, const bfloat16_pair* left, const bfloat16_pair* right) {
    for (index_t i = 0; i < 32; ++i)
      for (index_t j = 0; j < 32; ++j) {
        float sum = 0;
        for (index_t b = 0; b < blocks; ++b)
          for (index_t q = 0; q < 16; ++q)
            for (index_t k = 0; k < 2; ++k)
              sum += avx512_bf16_tile::number(left[b * 512 + i * 16 + q], k) *
                     avx512_bf16_tile::number(right[b * 512 + q * 32 + j], k);
        tile[i * 32 + j] = sum;
      }
  }
};

using emulated_amx_tile = amx_tile<emulated_amx>;

}  // namespace normuon::test

#endif

#endif
