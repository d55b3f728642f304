// normuon_bench: every backend of this repository in every family, with the options that --help names;
// --list_models prints models' matrices as JSON instead.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <normuon/bench/models.hpp>
#include <normuon/bench/run.hpp>
#include <string_view>

#include "suites.hpp"

namespace {

// {"model": [[count, rows, cols, batch], ...], ...}
void print_models() {
  std::printf("{");
  for (const normuon::bench::model& m : normuon::bench::models) {
    std::printf("%s\n  \"%s\": [", &m == normuon::bench::models.data() ? "" : ",", m.name.data());
    for (const normuon::bench::alike& t : m.tensors)
      std::printf("%s[%td, %td, %td, %td]", &t == m.tensors.data() ? "" : ", ", t.count, t.rows, t.cols, t.batch);
    std::printf("]");
  }
  std::printf("\n}\n");
}

void register_all(const normuon::bench::settings& settings) {
  register_eigen(settings);
  register_eigen64(settings);
#ifdef NORMUON_HAS_BLAS
  register_blas(settings);
#endif
#ifdef NORMUON_HAS_CUBLAS
  register_cublas(settings);
#endif
  register_plain(settings);
  benchmark::AddCustomContext("normuon_path",
                              std::string(normuon::name_of(normuon::chosen_path(normuon::cpu_path::automatic))));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--list_models") return print_models(), 0;
  return normuon::bench::run(argc, argv, register_all);
}
