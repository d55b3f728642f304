#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#include "normuon/backends/cpu/dispatch.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

constexpr cpu_path all_paths[] = {cpu_path::portable, cpu_path::avx2, cpu_path::avx512, cpu_path::avx512_bf16,
                                  cpu_path::amx};

// Processors of all kinds, by what they run from avx2 on.
constexpr processor other_zen{{true, true, true}, processor_maker::amd};
constexpr processor zen4{{true, true, true, true, true}, processor_maker::amd};
constexpr processor cascade_lake{{true, true, true, true}, processor_maker::intel, nullptr, 32 * 1024};
constexpr processor cooper_lake{{true, true, true, true, true}, processor_maker::intel};
constexpr processor sapphire_rapids{{true, true, true, true, true, true}, processor_maker::intel, nullptr, 48 * 1024};

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

TEST_CASE("the best path is the fastest one of its maker's processors") {
  CHECK(best_path(other_zen) == cpu_path::avx2);
  CHECK(best_path(zen4) == cpu_path::avx512_bf16);
  CHECK(best_path(cascade_lake) == cpu_path::avx512);
  CHECK(best_path(cooper_lake) == cpu_path::avx512);
  CHECK(best_path(sapphire_rapids) == cpu_path::amx);
  CHECK(best_path(processor{}) == cpu_path::portable);
}

TEST_CASE("AMX is the best path where the system lets the process have its registers") {
  processor p = sapphire_rapids;
  p.permits_amx = [] { return true; };
  CHECK(best_path(p) == cpu_path::amx);
  p.permits_amx = [] { return false; };
  CHECK(best_path(p) == cpu_path::avx512);
  CHECK(refusal_of([&] { chosen_path(cpu_path::amx, p); }).is(error_code::option, "can't run the path", "amx"));
}

TEST_CASE("the system is not asked for AMX's registers where another path is named") {
  static int asked;
  asked = 0;
  processor p = sapphire_rapids;
  p.permits_amx = [] { return ++asked > 0; };
  CHECK(chosen_path(cpu_path::avx512_bf16, p) == cpu_path::avx512_bf16);
  const environment e("avx512");
  CHECK(chosen_path(cpu_path::automatic, p) == cpu_path::avx512);
  CHECK(asked == 0);
  const environment none("");
  CHECK(chosen_path(cpu_path::automatic, p) == cpu_path::amx);
  CHECK(asked == 1);
}

TEST_CASE("what this processor runs, it runs with all that is below it, and its best path is among it") {
  CHECK(this_processor().runs(best_path()));
  for (std::size_t i = 1; i < cpu_path_names.size(); ++i)
    if (this_processor().can_run[i]) CHECK(this_processor().can_run[i - 1]);
}

TEST_CASE("products are summed in parts on Intel's processors, deeper ones where the first-level cache is larger") {
  CHECK(cells_in_first_level(cascade_lake) == 64);
  CHECK(cells_in_first_level(sapphire_rapids) == 128);
  CHECK(cells_in_first_level(cooper_lake) == 64);  // as long as it doesn't say how large its cache is
  CHECK(cells_in_first_level(zen4) == all_cells);
  CHECK(cells_in_first_level(processor{}) == all_cells);
}

TEST_CASE("the first-level cache of an Intel processor is as large as the system says, and no other's is asked for") {
  const unsigned bytes = this_processor().first_level_bytes;
  if (this_processor().maker != processor_maker::intel) {
    CHECK(bytes == 0);
    return;
  }
  bool is_stated = false, is_one_of_them = false;  // cores may differ
  for (unsigned cpu = 0; cpu < std::thread::hardware_concurrency(); ++cpu) {
    const std::string cache = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cache/index0/";
    std::string type;
    unsigned kib = 0;  // of "48K"
    if (!(std::ifstream(cache + "type") >> type) || type != "Data" || !(std::ifstream(cache + "size") >> kib)) continue;
    is_stated = true;
    is_one_of_them |= bytes == kib * 1024;
  }
  if (is_stated) CHECK(is_one_of_them);
}

TEST_CASE("the environment names the path, or what the processor has below it") {
  for (const processor& p :
       {other_zen, zen4, cascade_lake, cooper_lake, sapphire_rapids, processor{}, this_processor()})
    for (const cpu_path path : all_paths) {
      CAPTURE(name_of(path));
      const environment e(std::string(name_of(path)).c_str());
      const cpu_path chosen = chosen_path(cpu_path::automatic, p);
      CHECK(p.runs(chosen));
      CHECK(chosen <= path);
      if (p.runs(path)) CHECK(chosen == path);
      CHECK(chosen_path(cpu_path::portable, p) == cpu_path::portable);  // who asks by name gets that
    }
  const environment none("");
  CHECK(chosen_path(cpu_path::automatic) == best_path());
  CHECK(chosen_path(cpu_path::automatic, zen4) == cpu_path::avx512_bf16);
  const environment amx("amx");
  CHECK(chosen_path(cpu_path::automatic, zen4) == cpu_path::avx512_bf16);
  CHECK(chosen_path(cpu_path::automatic, cooper_lake) == cpu_path::avx512);
  const environment unknown("avx3");
  CHECK(refusal_of([] { chosen_path(cpu_path::automatic); }).is(error_code::option, "NORMUON_CPU", "avx3"));
}

TEST_CASE("a path that the processor can't run is refused, and so is one that is none") {
  for (const processor& p : {zen4, cascade_lake, processor{}, this_processor()})
    for (const cpu_path path : all_paths) {
      const refusal r = refusal_of([&] { chosen_path(path, p); });
      if (p.runs(path)) CHECK(!r.code);
      else CHECK(r.is(error_code::option, "can't run the path", name_of(path)));
    }
  for (const int none : {-1, 6, 99})
    CHECK(refusal_of([&] {
            chosen_path(static_cast<cpu_path>(none));
          }).is(error_code::option, "a path", std::to_string(none)));
}
