#include <normuon/backends/eigen.hpp>
#include <normuon/bench/register_backend.hpp>

#include "suites.hpp"

using namespace normuon;

void register_eigen(const bench::settings& s) {
  for (std::size_t i = 0; i < cpu_path_names.size(); ++i) {
    const auto path = static_cast<cpu_path>(i);
    if (!this_processor().runs(path)) continue;
    const std::string name = path == cpu_path::automatic ? "eigen" : "eigen-" + std::string(name_of(path));
    bench::register_backend<eigen_backend>(
        name, [path](int threads) { return eigen_backend({.threads = threads, .path = path}); }, s);
  }
}
