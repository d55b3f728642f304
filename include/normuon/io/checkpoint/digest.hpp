// XXH3, 64 bits: what detects accidents in a checkpoint, not attacks. Needs libxxhash.
// https://github.com/Cyan4973/xxHash
#ifndef NORMUON_IO_CHECKPOINT_DIGEST_HPP
#define NORMUON_IO_CHECKPOINT_DIGEST_HPP

#include <xxhash.h>

#include <charconv>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>

#include "normuon/io/file_system.hpp"

namespace normuon {

inline std::uint64_t xxh3_of(const_bytes bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

// The digest of bytes that come piece by piece.
class running_digest {
 public:
  running_digest() : state_(XXH3_createState(), XXH3_freeState) {
    if (!state_) throw std::bad_alloc();
    XXH3_64bits_reset(state_.get());
  }
  void add(const_bytes bytes) { XXH3_64bits_update(state_.get(), bytes.data(), bytes.size()); }
  std::uint64_t value() const { return XXH3_64bits_digest(state_.get()); }

 private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state_;
};

// 16 hexadecimal digits, as xxhsum writes them.
inline std::string digest_text(std::uint64_t digest) {
  std::string text(16, '0');
  for (std::size_t i = 16; i-- > 0; digest >>= 4) text[i] = "0123456789abcdef"[digest & 15];
  return text;
}

// No value where the text isn't what digest_text writes.
inline std::optional<std::uint64_t> read_digest(std::string_view text) {
  std::uint64_t digest = 0;
  std::from_chars(text.data(), text.data() + text.size(), digest, 16);
  if (text != digest_text(digest)) return {};
  return digest;
}

}  // namespace normuon

#endif
