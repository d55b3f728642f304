// Exchanges numbers with an engine of one's own (07_custom_engine.hpp): four processes pass what they hold around a
// ring until everybody has seen all of it.
#include <array>

#include "07_custom_engine_ranks.hpp"

int main() {
  constexpr int size = 4;
  fork_ranks(size, [](socket_engine engine) {
    std::array<double, 2> mine{}, next{};
    const std::size_t bytes = sizeof mine;
    const normuon::exchange ring{{{(engine.rank() + 1) % size, 0, bytes}},
                                 {{(engine.rank() + size - 1) % size, 0, bytes}}};
    normuon::repeated_exchange<socket_engine> pass(engine, ring, mine.data(), next.data());
    normuon::open_connections(engine, std::span(&ring, 1));

    mine = {1.0 + engine.rank(), 0.5};
    std::array<double, 2> sum = mine;
    for (int step = 1; step < size; ++step) {
      pass.start(engine);
      pass.finish(engine);
      mine = next;
      for (std::size_t k = 0; k < 2; ++k) sum[k] += mine[k];
    }
    std::array<double, 2 * size> all{};  // small and equal on all ranks: that is what a gather is for
    for (std::size_t k = 0; k < 2; ++k) all[2 * static_cast<std::size_t>(engine.rank()) + k] = sum[k];
    engine.all_gather_small(all.data(), bytes);
    for (std::size_t r = 0; r < size; ++r)
      if (all[2 * r] != 10 || all[2 * r + 1] != 2) throw std::runtime_error("a sum is wrong");
  });
  std::puts("every process has the sums 10 and 2");
}
