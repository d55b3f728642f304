// on_path PATH PROGRAM ARGUMENT...: runs a test on one path of kernels, or skips it, in TAP, where that would show
// nothing: the processor can't run the path, or takes it anyway.
#include <unistd.h>

#include <cstdio>

#include "normuon/backends/cpu/dispatch.hpp"

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  for (const normuon::cpu_path path : {normuon::cpu_path::portable, normuon::cpu_path::avx2, normuon::cpu_path::avx512,
                                       normuon::cpu_path::avx512_bf16, normuon::cpu_path::amx}) {
    if (normuon::name_of(path) != argv[1]) continue;
    const bool runs = normuon::this_processor().runs(path);
    const char* const why_not = !runs                          ? "this processor can't run it"
                                : path == normuon::best_path() ? "what this processor takes anyway, so it is tested"
                                                               : nullptr;
    if (why_not) return std::printf("1..1\nok 1 - the path %s # SKIP %s\n", argv[1], why_not) < 0;
    setenv("NORMUON_CPU", argv[1], 1);
    execv(argv[2], argv + 2);
    std::perror(argv[2]);
    return 2;
  }
  std::fprintf(stderr, "on_path: there is no path '%s'\n", argv[1]);
  return 2;
}
