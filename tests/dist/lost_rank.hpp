// The frame of programs in which rank 1 kills or stops itself, under mpirun in recovery mode; tests/dist/survive runs
// them.
//   PROGRAM                                       lists its phases, a line each
//   PROGRAM PHASE kill|stop DEADLINE_MS FOLDER    loses rank 1 in that phase
// All others must end with an error by the deadline. Each says in FOLDER/rank.pid who it is; a survivor says in
// FOLDER/rank how many milliseconds after the loss it ended and with what, and leaves without MPI_Finalize, which would
// wait.
#ifndef NORMUON_TESTS_DIST_LOST_RANK_HPP
#define NORMUON_TESTS_DIST_LOST_RANK_HPP

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string_view>

#include "normuon/shards/mpi.hpp"

namespace normuon::test {

class lost_rank {
 public:
  const std::string folder;  // ends with a slash
  const std::chrono::milliseconds deadline;

  lost_rank(std::string_view phase, std::string_view how, const char* deadline_ms, const std::string& in)
      : folder(in + "/"), deadline(std::atoi(deadline_ms)), phase_(phase), signal_(how == "kill" ? SIGKILL : SIGSTOP) {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    std::ofstream(folder + std::to_string(rank_) + ".pid") << getpid() << std::endl;
  }

  // From now on a phase may be the last.
  void arm() { armed_ = true; }
  // Rank 1 is in this phase.
  void in(std::string_view phase) const {
    if (!armed_ || rank_ != 1 || phase != phase_) return;
    std::ofstream(folder + "lost") << now().count() << std::endl;
    std::raise(signal_);
  }
  std::chrono::milliseconds since_lost() const {
    std::chrono::milliseconds::rep lost = 0;
    std::ifstream(folder + "lost") >> lost;
    return now() - std::chrono::milliseconds(lost);
  }
  void report(std::chrono::milliseconds after, const std::string& ended) const {
    std::ofstream(folder + std::to_string(rank_)) << after.count() << ' ' << ended << std::endl;
  }

 private:
  // By a clock that all processes of a machine have in common.
  static std::chrono::milliseconds now() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch());
  }

  std::string_view phase_;
  int signal_;
  int rank_ = -1;
  bool armed_ = false;
};

// main() of such a program: run(lost) arms `lost`, tells it the phases and ends with an error; after(lost) throws
// where something else is wrong then.
template <class Run, class After>
int lose_a_rank(int argc, char** argv, std::initializer_list<std::string_view> phases, Run&& run, After&& after) {
  if (argc == 1)
    for (const std::string_view phase : phases) std::cout << phase << '\n';
  if (argc != 5) return argc == 1 ? 0 : 2;
  MPI_Init(nullptr, nullptr);
  lost_rank lost(argv[1], argv[2], argv[3], argv[4]);
  std::string ended = "no error";
  try {
    run(lost);
  } catch (const error& e) {
    ended = std::string(name_of(e.code())) + ": " + e.what();
  }
  const std::chrono::milliseconds when = lost.since_lost();
  try {
    after(lost);
  } catch (const std::exception& e) {
    ended = std::string("afterwards: ") + e.what();
  }
  lost.report(when, ended);
  std::_Exit(0);
}

}  // namespace normuon::test

#endif
