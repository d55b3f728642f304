#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "support/emulated_amx.hpp"
#include "support/matrix.hpp"

#if defined(__x86_64__)

using namespace normuon;
using namespace normuon::test;

namespace {

// Numbers of the normal distribution times powers of two from 2^least on, so that some sums cancel, and some are
// subnormal.
std::vector<bfloat16_pair> random_pairs(random_source& random, index_t count, int least, int powers) {
  std::vector<bfloat16_pair> pairs(static_cast<std::size_t>(count), bfloat16_pair{});
  const matrix x = random.gaussian(count, 2);
  for (index_t i = 0; i < count; ++i)
    for (index_t k = 0; k < 2; ++k) {
      const int power = least + static_cast<int>((7 * i + 3 * k) % powers);
      auto& pair = pairs[static_cast<std::size_t>(i)];
      pair = avx512_bf16_tile::with_number(pair, k, std::ldexp(static_cast<float>(x(i, k)), power));
    }
  return pairs;
}

}  // namespace

TEST_CASE("the emulation of AMX has the bits of the processor" * doctest::skip(!this_processor().runs(cpu_path::amx))) {
  random_source random(1);
  struct range {
    int least, powers;
  };
  for (const range of : {range{0, 1}, range{-40, 80}, range{-130, 70}})
    for (const index_t blocks : {1, 2, 5})
      for (const bool adds : {false, true}) {
        CAPTURE(of.least);
        CAPTURE(blocks);
        CAPTURE(adds);
        const auto left = random_pairs(random, 512 * blocks, of.least, of.powers);
        const auto right = random_pairs(random, 512 * blocks, of.least, of.powers);
        const matrix begun = random.gaussian(32, 32);
        std::vector<float> got(begun.values.begin(), begun.values.end()), expected = got;
        {
          const amx_instructions::registers registers;
          amx_instructions::product(got.data(), blocks, left.data(), right.data(), adds);
        }
        emulated_amx::product(expected.data(), blocks, left.data(), right.data(), adds);
        CHECK(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
      }
}

#endif
