#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "normuon/backends/cpu/dispatch.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

constexpr cpu_path all_paths[] = {cpu_path::portable, cpu_path::avx2, cpu_path::avx512, cpu_path::avx512_bf16,
                                  cpu_path::amx};

// The environment's NORMUON_CPU, for as long as this lives.
class environment {
 public:
  explicit environment(const char* name) : had_(std::getenv(variable) != nullptr) {
    if (had_) before_ = std::getenv(variable);
    setenv(variable, name, 1);
  }
  ~environment() {
    if (had_) setenv(variable, before_.c_str(), 1);
    else unsetenv(variable);
  }

 private:
  static constexpr const char* variable = "NORMUON_CPU";
  bool had_;
  std::string before_;
};

}  // namespace

TEST_CASE("the environment names the path, or what the processor has below it") {
  for (const cpu_path path : all_paths) {
    CAPTURE(name_of(path));
    const environment e(std::string(name_of(path)).c_str());
    const cpu_path chosen = chosen_path(cpu_path::automatic);
    CHECK(runs_here(chosen));
    if (runs_here(path)) CHECK(chosen == path);
    else CHECK(chosen == std::min(path, best_path()));
    CHECK(chosen_path(cpu_path::portable) == cpu_path::portable);  // who asks by name gets that
  }
  const environment none("");
  CHECK(chosen_path(cpu_path::automatic) == best_path());
  const environment unknown("avx3");
  CHECK(refusal_of([] { chosen_path(cpu_path::automatic); }).is(error_code::option, "NORMUON_CPU", "avx3"));
}

TEST_CASE("a path that the processor can't run is refused, and so is one that is none") {
  for (const cpu_path path : all_paths) {
    const refusal r = refusal_of([&] { chosen_path(path); });
    if (runs_here(path)) CHECK(!r.code);
    else CHECK(r.is(error_code::option, "can't run the path", name_of(path)));
  }
  for (const int none : {-1, 6, 99})
    CHECK(refusal_of([&] {
            chosen_path(static_cast<cpu_path>(none));
          }).is(error_code::option, "a path", std::to_string(none)));
}
