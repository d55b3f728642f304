// Runs under mpirun in recovery mode: rank 1 kills or stops itself in a phase of a step, all others must end with an
// error by the deadline. Each says in FOLDER/rank.pid who it is; a survivor says in FOLDER/rank what it ended with and
// after how many milliseconds, and leaves without MPI_Finalize, which would wait.
//   lose_a_rank PHASE kill|stop DEADLINE_MS FOLDER
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string_view>

#include "normuon/shards/mpi.hpp"

using namespace normuon;
using milliseconds = std::chrono::milliseconds;

namespace {

constexpr std::size_t long_leg = 1'000'000, short_leg = 64;

// To and from every other rank a short and a long leg.
exchange everybody(int rank, int size) {
  exchange e;
  std::size_t at = 0;
  for (int peer = 0; peer < size; ++peer)
    for (const std::size_t bytes : {short_leg, long_leg}) {
      if (peer != rank) e.send.push_back({peer, at, bytes}), e.receive.push_back({peer, at, bytes});
      at += bytes;
    }
  return e;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const std::string_view phase = argv[1];
  const int signal = std::string_view(argv[2]) == "kill" ? SIGKILL : SIGSTOP;
  const milliseconds deadline(std::atoi(argv[3]));
  const std::string folder = argv[4] + std::string("/");
  MPI_Init(nullptr, nullptr);
  int rank = -1;
  std::chrono::steady_clock::time_point begin;
  std::string ended = "no error";
  try {
    mpi_engine engine(MPI_COMM_WORLD, {.deadline = deadline});
    rank = engine.rank();
    std::ofstream(folder + std::to_string(rank) + ".pid") << getpid() << std::endl;
    const exchange e = everybody(rank, engine.size());
    std::vector<std::byte> send(static_cast<std::size_t>(engine.size()) * (short_leg + long_leg)), receive(send.size());
    std::vector<std::byte> flags(static_cast<std::size_t>(engine.size()));
    repeated_exchange<mpi_engine> gather(engine, e, send.data(), receive.data());
    open_connections(engine, std::span(&e, 1));
    for (int step = 0; step < 5; ++step) {
      const auto lose_in = [&](std::string_view name) {
        begin = std::chrono::steady_clock::now();
        if (rank == 1 && step == 3 && phase == name) std::raise(signal);
      };
      lose_in("before the gather");
      engine.all_gather_small(flags.data(), 1);
      lose_in("between");
      gather.start(engine);
      lose_in("under way");
      for (int k = 0; k < 3; ++k) gather.test(engine);
      lose_in("half done");
      gather.finish(engine);
      lose_in("at the end");
    }
  } catch (const error& e) {
    ended = std::string(name_of(e.code())) + ": " + e.what();
  }
  const auto after = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
  std::ofstream(folder + std::to_string(rank)) << after.count() << ' ' << ended << std::endl;
  std::_Exit(0);
}
