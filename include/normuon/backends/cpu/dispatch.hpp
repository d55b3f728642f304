// Which packed kernel computes: a pure function of the processor's features and maker, and of whether the system lets
// the process have AMX's registers, so that bits never depend on a measurement. The environment's NORMUON_CPU may name
// another; a name may also be asked for (cpu_options).
#ifndef NORMUON_BACKENDS_CPU_DISPATCH_HPP
#define NORMUON_BACKENDS_CPU_DISPATCH_HPP

#include <algorithm>
#include <cstdlib>

#include "normuon/backends/cpu/processor.hpp"
#include "normuon/backends/cpu/tiles/portable.hpp"
#include "normuon/element_types.hpp"
#include "normuon/errors.hpp"
#if defined(__x86_64__)
#include "normuon/backends/cpu/tiles/amx.hpp"
#include "normuon/backends/cpu/tiles/avx2.hpp"
#include "normuon/backends/cpu/tiles/avx512.hpp"
#endif

namespace normuon {

// The best path of a processor. vdpbf16ps does twice the work of an fp32 FMA on AMD's Zen 4 and Zen 5, and half of it
// on the Intel one with AMX that was at hand (docs/results.md), so an Intel one without AMX computes bfloat16 as
// rounded floats.
inline cpu_path best_path(const processor& p = this_processor()) {
  if (p.runs(cpu_path::amx)) return cpu_path::amx;
  if (p.runs(cpu_path::avx512_bf16) && p.maker == processor_maker::amd) return cpu_path::avx512_bf16;
  if (p.runs(cpu_path::avx512)) return cpu_path::avx512;
  if (p.runs(cpu_path::avx2)) return cpu_path::avx2;
  return cpu_path::portable;
}

// `wanted`, or for automatic the path that NORMUON_CPU names, or the best one. What the environment names is lowered to
// what the processor runs. Throws where the processor can't run what is wanted, or the environment's name is none.
inline cpu_path chosen_path(cpu_path wanted, const processor& p = this_processor()) {
  if (static_cast<std::size_t>(wanted) >= cpu_path_names.size())
    fail(error_code::option, "expected a path of kernels, got ", static_cast<int>(wanted));
  if (wanted != cpu_path::automatic) {
    if (!p.runs(wanted)) fail(error_code::option, "this processor can't run the path ", name_of(wanted));
    return wanted;
  }
  const char* const name = std::getenv("NORMUON_CPU");
  if (name == nullptr || *name == '\0') return best_path(p);
  for (std::size_t i = 1; i < cpu_path_names.size(); ++i)
    if (const auto named = static_cast<cpu_path>(i); cpu_path_names[i] == name)
      return p.runs(named) ? named : std::min(named, best_path(p));
  fail(error_code::option, "NORMUON_CPU names no path: expected portable, avx2, avx512, avx512_bf16 or amx, got ",
       name);
}

// Calls f.operator()<K>() with the kernel of a path and type of the iteration.
template <class F>
decltype(auto) with_kernel(cpu_path path, compute_type compute, F&& f) {
#if defined(__x86_64__)
  if (path == cpu_path::amx && compute == compute_type::bfloat16)
    return f.template operator()<amx_tile<amx_instructions>>();
  if (path == cpu_path::avx512_bf16 && compute == compute_type::bfloat16)
    return f.template operator()<avx512_bf16_tile>();
  if (path >= cpu_path::avx512) return f.template operator()<avx512_tile>();
  if (path == cpu_path::avx2) return f.template operator()<avx2_tile>();
#endif
  return f.template operator()<portable_tile>();
}

}  // namespace normuon

#endif
