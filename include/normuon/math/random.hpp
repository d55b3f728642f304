// Random numbers without a state: each is a function of a key and a counter, so whoever needs one computes it, on any
// device, in any order, and gets the same. Standard library only, constexpr.
#ifndef NORMUON_MATH_RANDOM_HPP
#define NORMUON_MATH_RANDOM_HPP

#include <array>
#include <cstdint>
#include <string_view>

namespace normuon {

using random_block = std::array<std::uint32_t, 4>;

// Philox-4x32-10: 128 random bits of a counter of 128 bits and a key of 64 (Salmon, Moraes, Dror and Shaw, "Parallel
// random numbers: as easy as 1, 2, 3", SC 2011, section 3.3; constants from their Random123).
constexpr random_block philox(random_block counter, std::uint64_t key) {
  auto low_key = static_cast<std::uint32_t>(key), high_key = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t even = std::uint64_t{0xD2511F53u} * counter[0], odd = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<std::uint32_t>(odd >> 32) ^ counter[1] ^ low_key, static_cast<std::uint32_t>(odd),
               static_cast<std::uint32_t>(even >> 32) ^ counter[3] ^ high_key, static_cast<std::uint32_t>(even)};
    low_key += 0x9E3779B9u;
    high_key += 0xBB67AE85u;
  }
  return counter;
}

// Which numbers a matrix takes: its element (i, j) is number first + i across + j of a tensor, of which it may be a
// part, and which `key` stands for.
struct random_stream {
  std::uint64_t key = 0;
  std::int64_t first = 0;
  std::int64_t across = 0;

  constexpr std::int64_t element(std::int64_t i, std::int64_t j) const { return first + i * across + j; }
};

inline constexpr std::int64_t random_block_length = 4;

// The numbers that elements 4 block to 4 block + 3 of a tensor take in a step.
constexpr random_block random_bits(std::uint64_t key, std::uint64_t step, std::int64_t block) {
  const auto b = static_cast<std::uint64_t>(block);
  return philox({static_cast<std::uint32_t>(b), static_cast<std::uint32_t>(b >> 32), static_cast<std::uint32_t>(step),
                 static_cast<std::uint32_t>(step >> 32)},
                key);
}

// FNV-1a in 64 bits (draft-eastlake-fnv).
constexpr std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): its finalizer, and the number that it gives k numbers after a seed.
constexpr std::uint64_t scrambled(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}
constexpr std::uint64_t splitmix(std::uint64_t seed, std::uint64_t k) {
  return scrambled(seed + (k + 1) * 0x9E3779B97F4A7C15u);
}

// The key of a tensor, of which its name is all that every rank and every run has in common: its hash, with the seed.
constexpr std::uint64_t random_key(std::uint64_t seed, std::string_view name) {
  return scrambled(hash_of(name) ^ splitmix(seed, 0));
}

}  // namespace normuon

#endif
