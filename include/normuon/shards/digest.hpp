// Digests by which ranks find out that they disagree, or that bytes changed on their way: quick, and no defence against
// an adversary. Standard library only.
#ifndef NORMUON_SHARDS_DIGEST_HPP
#define NORMUON_SHARDS_DIGEST_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace normuon {

static_assert(std::endian::native == std::endian::little, "digests read words as they lie");

// One step of a digest: for a fixed h one-to-one in the word, and for a fixed word in h. So a single changed word
// changes the digest for certain. The factor is that of splitmix64 (Steele, Lea and Flood,
// doi:10.1145/2660193.2660195).
constexpr std::uint64_t digest_with(std::uint64_t h, std::uint64_t word) {
  h = (h ^ word) * 0x9e3779b97f4a7c15u;
  return h ^ (h >> 32);
}

// Of bytes and their number. Four chains, as one alone waits for its products.
inline std::uint64_t digest_of(std::span<const std::byte> bytes) {
  std::uint64_t chains[4] = {1, 2, 3, 4}, words[4];
  std::size_t at = 0;
  for (; at + sizeof words <= bytes.size(); at += sizeof words) {
    std::memcpy(words, bytes.data() + at, sizeof words);
    for (int k = 0; k < 4; ++k) chains[k] = digest_with(chains[k], words[k]);
  }
  std::memset(words, 0, sizeof words);
  if (at < bytes.size()) std::memcpy(words, bytes.data() + at, bytes.size() - at);
  std::uint64_t h = bytes.size();
  for (int k = 0; k < 4; ++k) h = digest_with(h, digest_with(chains[k], words[k]));
  return h;
}
inline std::uint64_t digest_of(std::string_view text) { return digest_of(std::as_bytes(std::span(text))); }

}  // namespace normuon

#endif
