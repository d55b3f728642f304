// What this processor is: who made it, which paths of kernels it and its operating system run, and how large the cache
// is that feeds them.
#ifndef NORMUON_BACKENDS_CPU_PROCESSOR_HPP
#define NORMUON_BACKENDS_CPU_PROCESSOR_HPP

#include <algorithm>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "normuon/backends/cpu/options.hpp"

namespace normuon {

enum class processor_maker { other, amd, intel };

// What the choice of kernels depends on, and how deep the parts are that they sum at once.
struct processor {
  std::array<bool, cpu_path_names.size()> can_run{true, true};  // by path: automatic and portable everywhere
  processor_maker maker = processor_maker::other;
  bool (*permits_amx)() = nullptr;  // asks the system, where it must be asked
  unsigned first_level_bytes = 0;   // of a core's data cache; 0: unknown, or not asked for

  bool runs(cpu_path path) const {
    return can_run[static_cast<std::size_t>(path)] && (path != cpu_path::amx || !permits_amx || permits_amx());
  }
};

#if defined(__x86_64__)

inline bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned bf16 = 1U << 22, tile = 1U << 24, needed = bf16 | tile;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & needed) == needed;
}

// Whether the system lets this process have AMX's registers, for which it is asked once. From then on it refuses
// alternate signal stacks (sigaltstack) that have no room for them, and it refuses them where there is one.
inline bool amx_is_permitted() {
  constexpr long request_permission = 0x1023, tile_data = 18;  // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
  static const bool answer = syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  return answer;
}

#endif

// A path needs what the one below it does, and more.
inline processor detected_processor() {
  processor p;
#if defined(__x86_64__)
  const auto runs = [&](cpu_path path) -> bool& { return p.can_run[static_cast<std::size_t>(path)]; };
  runs(cpu_path::avx2) = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  runs(cpu_path::avx512) = runs(cpu_path::avx2) && __builtin_cpu_supports("avx512f");
  runs(cpu_path::avx512_bf16) =
      runs(cpu_path::avx512) && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bf16");
  runs(cpu_path::amx) = runs(cpu_path::avx512_bf16) && __builtin_cpu_supports("avx512bw") && has_amx();
  p.permits_amx = amx_is_permitted;
  if (__builtin_cpu_is("amd")) p.maker = processor_maker::amd;
  if (__builtin_cpu_is("intel")) {
    p.maker = processor_maker::intel;
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    p.first_level_bytes = static_cast<unsigned>(std::max(0L, sysconf(_SC_LEVEL1_DCACHE_SIZE)));
#endif
  }
#endif
  return p;
}

inline const processor& this_processor() {
  static const processor p = detected_processor();
  return p;
}

}  // namespace normuon

#endif
