#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <new>

#include "support/files.hpp"
#include "support/generations.hpp"
#include "support/lossy_files.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

const file_path path = "f";

// A disk on which a few generations have been saved, one after the other, and when each was acknowledged.
template <template <class> class Wrapped>
struct history {
  lossy_disk disk;
  std::vector<std::size_t> acknowledged;  // operations that were done by then

  explicit history(int generations, bool has_links = true) {
    disk.has_links = has_links;
    for (int k = 0; k < generations; ++k) {
      save_generation(path, k, 6, Wrapped<lossy_file_system>{{&disk}});
      acknowledged.push_back(disk.operations());
    }
  }
  int last_acknowledged(std::size_t operations) const {
    int last = -1;
    for (std::size_t k = 0; k < acknowledged.size() && acknowledged[k] <= operations; ++k) last = static_cast<int>(k);
    return last;
  }

  // Loses power `times` times at every moment; returns how often what was acknowledged is gone from all `paths`.
  int losses(int times, const std::vector<file_path>& paths) {
    random_source random(7);
    int lost = 0;
    for (std::size_t moment = 0; moment <= disk.operations(); ++moment) {
      for (int k = 0; k < times; ++k) {
        lossy_disk left = disk.after_power_loss(moment, random);
        int best = -1;
        for (const file_path& p : paths) best = std::max(best, saved_generation(p, lossy_file_system{&left}));
        lost += best < last_acknowledged(moment);
        states += 1;
        torn += left.names.contains(path) && saved_generation(path, lossy_file_system{&left}) < 0;
        if (k != 0) continue;
        save_generation(path, 99, 6, lossy_file_system{&left});
        recovered += saved_generation(path, lossy_file_system{&left}) == 99 && left.names.size() <= 2;
      }
    }
    return lost;
  }
  int states = 0;     // that were looked at
  int recovered = 0;  // in which a save worked and cleared up; the first of each moment is tried
  int torn = 0;       // in which something is at the path that doesn't load
};

template <class System>
struct as_it_is : System {};

struct killing {
  int lost = 0;          // how often the last generation that was acknowledged, or a newer one, was not there
  int acknowledged = 0;  // generations
};

// Kills a process that saves one generation after the other, again and again.
template <file_system System>
killing killed_while_saving(int kills, const file_path& at, System system, bool keep_previous) {
  // Shared memory is what outlives the process, and costs no call that the kill could fall into.
  struct told {
    std::atomic<int> acknowledged = -1, begun = 0;
  };
  void* const shared = ::mmap(nullptr, sizeof(told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(shared != MAP_FAILED);
  told& child_said = *new (shared) told;
  std::atomic<int>& acknowledged = child_said.acknowledged;
  random_source random(11);
  killing result;
  // From when it has begun a process gets the time of up to three saves, whatever else the machine does.
  constexpr int timed = 20;
  const auto start = std::chrono::steady_clock::now();
  for (int k = 0; k < timed; ++k) save_generation(at, 0, 400, system, keep_previous);
  const double save =
      std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / timed;
  for (int kill = 0; kill < kills; ++kill) {
    child_said.begun = 0;
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      for (int k = acknowledged + 1;; ++k) {
        child_said.begun = 1;
        save_generation(at, k, 400, system, keep_previous);
        acknowledged = k;
      }
    }
    while (child_said.begun == 0) ::usleep(20);
    ::usleep(static_cast<useconds_t>(random.uniform(0, 3) * save));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const int found = saved_generation(at, posix_file_system());
    if (found < acknowledged) result.lost += 1;
    else acknowledged = found;
  }
  result.acknowledged = acknowledged + 1;
  ::munmap(shared, sizeof(told));
  return result;
}

}  // namespace

TEST_CASE("after a loss of power in any of 50,000 states the last acknowledged checkpoint or a newer one is there") {
  history<as_it_is> h(4);
  const int times = 50000 / static_cast<int>(h.disk.operations()) + 1;
  CHECK(h.losses(times, {path}) == 0);
  CHECK(h.states >= 50000);
  CHECK(h.recovered == static_cast<int>(h.disk.operations()) + 1);
  CHECK(h.torn == 0);
}

TEST_CASE("on a file system without links one of the two names has the last acknowledged checkpoint or a newer one") {
  history<as_it_is> h(3, false);
  CHECK(h.losses(60, {path, previous_generation(path)}) == 0);
  CHECK(h.torn == 0);
}

TEST_CASE("a loss of power is no empty test: saving in place loses what was acknowledged") {
  history<in_place> h(2);
  CHECK(h.losses(20, {path}) > 100);
  CHECK(h.torn > 100);
}

TEST_CASE("whichever operation finds the disk full, the file that was there stays or the error says otherwise") {
  for (const bool has_links : {true, false})
    for (const bool stays_full : {false, true}) {
      int new_at_path = 0, empty_path = 0;
      for (std::size_t failing = 0;; ++failing) {
        CAPTURE(failing);
        lossy_disk disk;
        disk.has_links = has_links;
        const lossy_file_system system{&disk};
        save_generation(path, 0, 6, system);
        save_generation(path, 1, 6, system);
        disk.fails_at = disk.operations() + failing;
        disk.stays_full = stays_full;
        const std::string failed = file_refusal([&] { save_generation(path, 2, 6, system); });
        disk.fails_at = lossy_disk::none;
        if (failed.empty()) {
          CHECK(failing >= 15);
          break;
        }
        CAPTURE(failed);
        CHECK(contains(failed, "the disk is full"));
        const int now = saved_generation(path, system);
        CHECK(contains(failed, "; f is the new file, which a loss of power may take back") == (now == 2));
        CHECK(contains(failed, "; nothing is at f now, what stood there is f.previous") == (now == -1));
        if (now == -1) CHECK(saved_generation(previous_generation(path), system) == 1);
        else CHECK(now >= 1);
        new_at_path += now == 2;
        empty_path += now == -1;
        save_generation(path, 3, 6, system);
        CHECK(saved_generation(path, system) == 3);
        for (const auto& [name, file] : disk.names) CHECK((name == "f" || name == "f.previous"));
      }
      CHECK(new_at_path == 1);                          // the last operation is that of the folder
      CHECK(empty_path == (!has_links && stays_full));  // between two renames, neither of which can be undone
    }
}

TEST_CASE(
    "1,000 processes killed while they save lose nothing that was acknowledged, and leave at most one file behind") {
  const scratch_folder folder;
  const killing result = killed_while_saving(1000, folder / "f", posix_file_system(), true);
  CHECK(result.lost == 0);
  CHECK(result.acknowledged > 100);
  CHECK(folder.entries() <= 4);  // f, f.previous, and of the last one a partial file and its second name
  save_generation(folder / "f", 1, 6, posix_file_system());
  CHECK(folder.entries() == 2);
}

TEST_CASE("to kill is no empty test: processes that save in place lose what was acknowledged") {
  // How often depends on the machine: as long as it takes, which on any is soon.
  int lost = 0;
  for (int round = 0; lost <= 4 && round < 50; ++round) {
    const scratch_folder folder;
    lost += killed_while_saving(40, folder / "f", in_place<posix_file_system>(), false).lost;
  }
  CHECK(lost > 4);
}
