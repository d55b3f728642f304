#include <doctest/doctest.h>

#include <cstdlib>
#include <set>

#include "normuon/math/random.hpp"

using namespace normuon;

TEST_CASE("philox gives the known answers of its authors") {
  // Random123, examples/kat_vectors, philox4x32 with 10 rounds.
  CHECK(philox({0, 0, 0, 0}, 0) == random_block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffffffffffff) ==
        random_block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822) ==
        random_block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  constexpr random_block at_compile_time = philox({0, 0, 0, 0}, 0);
  CHECK(at_compile_time == random_block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
}

TEST_CASE("every seed, name, step and element has random numbers of its own") {
  std::set<random_block> seen;
  int count = 0;
  for (const std::uint64_t seed : {0u, 1u, 7u})
    for (const char* name : {"", "a", "b", "ab", "ba", "layers.0.weight", "layers.1.weight"})
      for (const std::uint64_t step : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32})
        for (const std::int64_t block : {std::int64_t{0}, std::int64_t{1}, std::int64_t{1} << 32}) {
          seen.insert(random_bits(random_key(seed, name), step, block));
          ++count;
        }
  CHECK(seen.size() == static_cast<std::size_t>(count));
}

TEST_CASE("a part of a tensor numbers its elements as the whole does") {
  const random_stream whole{.key = 1, .first = 60, .across = 10},
      part{.key = 1, .first = 60 + 3 * 10 + 4, .across = 10};
  for (std::int64_t i = 0; i < 3; ++i)
    for (std::int64_t j = 0; j < 6; ++j) CHECK(part.element(i, j) == whole.element(3 + i, 4 + j));
}

TEST_CASE("each bit of the random numbers is one half of the time") {
  int ones[128] = {};
  constexpr int blocks = 4096;
  for (int block = 0; block < blocks; ++block) {
    const random_block words = random_bits(random_key(0, "w"), 1, block);
    for (std::size_t bit = 0; bit < 128; ++bit) ones[bit] += (words[bit / 32] >> (bit % 32)) & 1u ? 1 : 0;
  }
  for (const int n : ones) CHECK(std::abs(n - blocks / 2) < 6 * 32);  // six standard deviations, sqrt(4096) / 2 each
}
