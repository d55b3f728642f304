// Laws of an engine about what is moved: ranks, gathers, exchanges and their order. Every rank calls each with an
// engine of its own, and throws broken_law.
#ifndef NORMUON_TESTING_CONFORMANCE_EXCHANGE_LAWS_HPP
#define NORMUON_TESTING_CONFORMANCE_EXCHANGE_LAWS_HPP

#include <chrono>

#include "normuon/testing/conformance/exchanges.hpp"

namespace normuon::testing {

template <class Stage, shard_engine E>
void a_gather_brings_each_rank_s_piece_to_its_place(E& engine) {
  const auto size = static_cast<std::size_t>(engine.size()), rank = static_cast<std::size_t>(engine.rank());
  require(engine.rank() >= 0 && engine.rank() < engine.size(), engine, "expected a rank below the number of ranks");
  for (std::size_t round = 0; round < 40; ++round) {
    constexpr std::size_t sizes[] = {0, 1, 7, 8, 255};
    const std::size_t bytes = sizes[round % 5] * (1 + round / 10);
    const auto byte_of = [&](std::size_t r, std::size_t k) { return static_cast<std::byte>(r * 37 + k * 11 + round); };
    std::vector<std::byte> all(size * bytes + 8, std::byte{0x5a}), expected = all;
    for (std::size_t r = 0; r < size; ++r)
      for (std::size_t k = 0; k < bytes; ++k) expected[r * bytes + k] = byte_of(r, k);
    for (std::size_t k = 0; k < bytes; ++k) all[rank * bytes + k] = byte_of(rank, k);
    Stage stage(all);
    engine.all_gather_small(stage.data(), bytes);
    if constexpr (has_stream<E>) engine.wait();
    require(stage.read() == expected, engine, "gather ", round, " of pieces of ", bytes, " bytes is wrong");
  }
}

// Asks again and again until the answer is yes, but not for ever: a peer may have failed.
template <shard_engine E, class Complete>
void ask_until(E& engine, Complete&& complete) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  while (!complete())
    require(std::chrono::steady_clock::now() < limit, engine, "an exchange is complete in two minutes");
}

// By waiting, or by asking again and again.
template <class Stage, shard_engine E>
void an_exchange_moves_what_is_planned(E& engine, bool by_test) {
  for (std::uint64_t seed = 0; seed < 24; ++seed) {
    const std::size_t most = seed == 23 ? 2'000'000 : seed % 4 == 3 ? 70'000 : 500;
    side_of_exchange<Stage> side(engine, random_legs(engine.size(), seed, most), seed);
    side.fill(seed);
    auto request = engine.start(side.plan, side.send->data(), side.receive->data());
    if (by_test) ask_until(engine, [&] { return engine.test(request); });
    engine.finish(request);
    require(engine.test(request), engine, "a request that is complete stays so");
    side.check(engine, seed);
  }
}

// Only one pair of ranks has legs; of the others some start an empty exchange and some none.
template <class Stage, shard_engine E>
void ranks_without_legs_may_leave_an_exchange_out(E& engine) {
  for (int k = 0; k < 3 * engine.size(); ++k) {
    const int from = k % engine.size(), to = (k + 1 + k / engine.size()) % engine.size();
    std::vector<planned_leg> legs;
    if (from != to) legs.push_back({from, to, 100});
    side_of_exchange<Stage> side(engine, legs, static_cast<std::uint64_t>(k));
    const bool has_legs = !side.plan.send.empty() || !side.plan.receive.empty();
    if (!has_legs && engine.rank() % 2 == 1) continue;
    side.fill(0);
    auto request = engine.start(side.plan, side.send->data(), side.receive->data());
    engine.finish(request);
    side.check(engine, 0);
  }
}

// All legs have the same size: nothing but their order tells them apart. They are finished in another order on every
// rank, so each has to move what it does not wait for itself.
template <class Stage, shard_engine E>
void legs_arrive_in_the_order_in_which_they_were_sent(E& engine, std::size_t bytes) {
  constexpr std::size_t in_flight = 3;
  std::vector<planned_leg> legs;
  for (int from = 0; from < engine.size(); ++from)
    for (int to = 0; to < engine.size(); ++to)
      for (int n = 0; from != to && n < 4; ++n) legs.push_back({from, to, bytes});
  std::vector<side_of_exchange<Stage>> sides;
  for (std::size_t i = 0; i < in_flight; ++i) sides.emplace_back(engine, legs, i);
  for (std::uint64_t round = 0; round < 6; ++round) {
    std::vector<typename E::request> requests;
    for (std::size_t i = 0; i < in_flight; ++i) {
      sides[i].fill(round * in_flight + i);
      requests.push_back(engine.start(sides[i].plan, sides[i].send->data(), sides[i].receive->data()));
    }
    for (std::size_t k = 0; k < in_flight; ++k) {
      const std::size_t i = (static_cast<std::size_t>(engine.rank()) + k * (1 + round % 2)) % in_flight;
      engine.finish(requests[i]);
      sides[i].check(engine, round * in_flight + i);
    }
  }
}

// New bytes between the same two buffers, as in a training, and gathers between; without one nobody knows that all have
// started.
template <class Stage, shard_engine E>
void an_exchange_can_be_repeated(E& engine) {
  side_of_exchange<Stage> first(engine, random_legs(engine.size(), 5, 3000), 5);
  side_of_exchange<Stage> second(engine, random_legs(engine.size(), 6, 300'000), 6);
  repeated_exchange<E> one(engine, first.plan, first.send->data(), first.receive->data());
  repeated_exchange<E> other(engine, second.plan, second.send->data(), second.receive->data());
  require(one.test(engine), engine, "an exchange that has not been started is not under way");
  one.finish(engine);
  std::vector<std::byte> ok(static_cast<std::size_t>(engine.size()) * 8);
  Stage flags(ok);
  for (std::uint64_t step = 0; step < 20; ++step) {
    first.fill(step);
    second.fill(step + 1000);
    one.start(engine);
    if (step % 4 != 0) engine.all_gather_small(flags.data(), 8);
    other.start(engine);
    if (step % 2 == 0) ask_until(engine, [&] { return one.test(engine); });
    one.finish(engine);
    first.check(engine, step);
    other.finish(engine);
    second.check(engine, step + 1000);
  }
}

template <class Stage, shard_engine E>
  requires has_prepare<E>
void what_is_prepared_is_complete_until_it_is_restarted(E& engine) {
  side_of_exchange<Stage> side(engine, random_legs(engine.size(), 9, 5000), 9);
  side.fill(0);
  auto request = engine.prepare(side.plan, side.send->data(), side.receive->data());
  require(engine.test(request), engine, "what is prepared is not under way");
  engine.finish(request);
  for (std::uint64_t step = 0; step < 5; ++step) {
    side.fill(step);
    engine.restart(request);
    auto moved = std::move(request);
    engine.finish(moved);
    side.check(engine, step);
    request = std::move(moved);
  }
}

// Around a ring: who sends to a rank is not whom it sends to.
template <class Stage, shard_engine E>
void paths_can_be_opened_beforehand(E& engine) {
  std::vector<planned_leg> ring;
  for (int r = 0; r < engine.size() && engine.size() > 1; ++r) ring.push_back({r, (r + 1) % engine.size(), 1000});
  side_of_exchange<Stage> side(engine, ring, 4);
  const std::vector<std::byte> none(static_cast<std::size_t>(engine.size()));
  Stage send(none), receive(none);
  open_connections(engine, std::span<const exchange>(&side.plan, 1), send.data(), receive.data());
  side.fill(0);
  auto request = engine.start(side.plan, side.send->data(), side.receive->data());
  engine.finish(request);
  side.check(engine, 0);
}

template <class Stage, shard_engine E>
void an_engine_can_be_moved(E& engine) {
  side_of_exchange<Stage> side(engine, random_legs(engine.size(), 3, 100'000), 3);
  side.fill(0);
  E moved = std::move(engine);
  auto request = moved.start(side.plan, side.send->data(), side.receive->data());
  E again = std::move(moved);
  again.finish(request);
  side.check(again, 0);
  engine = std::move(again);
}

}  // namespace normuon::testing

#endif
