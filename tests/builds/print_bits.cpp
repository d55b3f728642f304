// Prints a digest of the trained weights' bits (64-bit FNV-1a), for comparing builds.
#include <bit>
#include <cinttypes>
#include <cstdint>
#include <cstdio>

#include "training.hpp"

int main() {
  std::uint64_t digest = 0xcbf29ce484222325u;
  for (const float w : trained_here()) digest = (digest ^ std::bit_cast<std::uint32_t>(w)) * 0x100000001b3u;
  std::printf("%016" PRIx64 "\n", digest);
}
