// What a backend on the CPU can be told. Standard library only.
#ifndef NORMUON_BACKENDS_CPU_OPTIONS_HPP
#define NORMUON_BACKENDS_CPU_OPTIONS_HPP

#include <array>
#include <string_view>

namespace normuon {

// The packed kernel that computes products, in the order of what they ask of a processor. All compute float32 and
// bfloat16: below avx512_bf16 the numbers of an iteration in bfloat16 are floats that are rounded whenever they are
// stored, and from avx512 on float32 is computed alike. Bits differ between paths, and for one path don't depend on
// anything else.
enum class cpu_path { automatic, portable, avx2, avx512, avx512_bf16, amx };

inline constexpr std::array<std::string_view, 6> cpu_path_names{"automatic", "portable",    "avx2",
                                                                "avx512",    "avx512_bf16", "amx"};
constexpr std::string_view name_of(cpu_path path) { return cpu_path_names[static_cast<std::size_t>(path)]; }

struct cpu_options {
  int threads = 0;                      // at least 1, or 0: as many as run at once
  cpu_path path = cpu_path::automatic;  // what suits the processor best, or what the environment's NORMUON_CPU names
};

}  // namespace normuon

#endif
