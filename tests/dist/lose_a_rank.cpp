// Loses a rank in an exchange; see lost_rank.hpp.
#include "dist/lost_rank.hpp"

using namespace normuon;
using namespace normuon::test;

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

void exchange_again_and_again(lost_rank& lost) {
  mpi_engine engine(MPI_COMM_WORLD, {.deadline = lost.deadline});
  const exchange e = everybody(engine.rank(), engine.size());
  std::vector<std::byte> send(static_cast<std::size_t>(engine.size()) * (short_leg + long_leg)), receive(send.size());
  std::vector<std::byte> flags(static_cast<std::size_t>(engine.size()));
  repeated_exchange<mpi_engine> gather(engine, e, send.data(), receive.data());
  open_connections(engine, std::span(&e, 1));
  for (int step = 0; step < 5; ++step) {
    if (step == 3) lost.arm();
    lost.in("before the gather");
    engine.all_gather_small(flags.data(), 1);
    lost.in("between");
    gather.start(engine);
    lost.in("under way");
    for (int k = 0; k < 3; ++k) gather.test(engine);
    lost.in("half done");
    gather.finish(engine);
    lost.in("at the end");
  }
}

}  // namespace

int main(int argc, char** argv) {
  return lose_a_rank(argc, argv, {"before the gather", "between", "under way", "half done", "at the end"},
                     exchange_again_and_again, [](const lost_rank&) {});
}
