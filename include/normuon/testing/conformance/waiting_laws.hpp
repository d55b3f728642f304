// Laws of an engine about waiting: what a verb waits for, for how long, and what is left afterwards. Every rank calls
// each with an engine of its own, and throws broken_law.
#ifndef NORMUON_TESTING_CONFORMANCE_WAITING_LAWS_HPP
#define NORMUON_TESTING_CONFORMANCE_WAITING_LAWS_HPP

#include <chrono>
#include <memory>
#include <string_view>

#include "normuon/testing/conformance/exchanges.hpp"

namespace normuon::testing {

inline std::vector<planned_leg> every_pair(int size, std::size_t bytes) {
  std::vector<planned_leg> legs;
  for (int from = 0; from < size; ++from)
    for (int to = 0; to < size; ++to)
      if (from != to) legs.push_back({from, to, bytes});
  return legs;
}

// Rank 0 starts its side only when all others have asked about theirs.
template <class Stage, shard_engine E>
void test_does_not_wait_for_a_peer(E& engine) {
  side_of_exchange<Stage> side(engine, every_pair(engine.size(), 200'000), 1);
  side.fill(0);
  const auto start = [&] { return engine.start(side.plan, side.send->data(), side.receive->data()); };
  std::vector<std::byte> flags(static_cast<std::size_t>(engine.size()));
  Stage all(flags);
  if (engine.rank() == 0) {
    engine.all_gather_small(all.data(), 1);
    auto request = start();
    engine.finish(request);
  } else {
    auto request = start();
    for (int k = 0; k < 10; ++k) require(!engine.test(request), engine, "what was not sent yet can't be complete");
    engine.all_gather_small(all.data(), 1);
    engine.finish(request);
  }
  side.check(engine, 0);
}

// Half of the ranks finish an exchange before the gather for which the others wait, legs of which are too long for any
// buffer between them.
template <class Stage, shard_engine E>
void who_waits_in_a_gather_moves_exchanges(E& engine) {
  side_of_exchange<Stage> side(engine, every_pair(engine.size(), 2'000'000 / static_cast<std::size_t>(engine.size())),
                               2);
  std::vector<std::byte> flags(static_cast<std::size_t>(engine.size()));
  Stage all(flags);
  for (std::uint64_t step = 0; step < 3; ++step) {
    side.fill(step);
    auto request = engine.start(side.plan, side.send->data(), side.receive->data());
    const bool gathers_first = (static_cast<std::uint64_t>(engine.rank()) + step) % 2 == 0;
    if (gathers_first) engine.all_gather_small(all.data(), 1);
    engine.finish(request);
    if (!gathers_first) engine.all_gather_small(all.data(), 1);
    side.check(engine, step);
  }
}

// Calls verb(), which has to throw error_code::engine.
template <class E, class Verb>
void require_failure(E& engine, std::string_view what, Verb verb) {
  try {
    verb();
  } catch (const error& e) {
    require(e.code() == error_code::engine, engine, "expected error_code::engine of ", what, ", got ",
            name_of(e.code()));
    return;
  }
  require(false, engine, "expected an error of ", what, ", got none");
}

template <class Stage, shard_engine E>
void require_that_all_verbs_fail(E& engine) {
  side_of_exchange<Stage> side(engine, every_pair(engine.size(), 10), 3);
  std::vector<std::byte> flags(static_cast<std::size_t>(engine.size()));
  Stage all(flags);
  require_failure(engine, "start", [&] {
    auto request = engine.start(side.plan, side.send->data(), side.receive->data());
    engine.finish(request);
  });
  require_failure(engine, "all_gather_small", [&] {
    engine.all_gather_small(all.data(), 1);
    if constexpr (has_stream<E>) engine.wait();
  });
}

// What may be under way still when a law ends goes away where the engine gives it up, and stays for good where it
// can't.
template <class E, class Side>
void give_back(E& engine, std::unique_ptr<Side> side) {
  if constexpr (has_abort<E>)
    if (!engine.abort()) (void)side.release();
}

// Rank 0 leaves without a word. Everybody else waits, and says for whom.
template <class Stage, shard_engine E>
  requires has_deadline<E>
void a_verb_waits_no_longer_than_the_deadline(E& engine, bool in_gather) {
  using clock = std::chrono::steady_clock;
  auto side = std::make_unique<side_of_exchange<Stage>>(engine, every_pair(engine.size(), 300'000), 4);
  side->fill(0);
  std::vector<std::byte> flags(static_cast<std::size_t>(engine.size()));
  Stage all(flags);
  if (engine.rank() == 0) return;
  const std::chrono::milliseconds deadline(300);
  engine.set_deadline(deadline);
  const clock::time_point begin = clock::now();
  require_failure(engine, "a verb that waits in vain", [&] {
    if (in_gather) return engine.all_gather_small(all.data(), 1);
    auto request = engine.start(side->plan, side->send->data(), side->receive->data());
    engine.finish(request);
    if constexpr (has_stream<E>) engine.wait();
  });
  require(clock::now() - begin < deadline + std::chrono::seconds(1), engine, "expected an end by the deadline of ",
          deadline.count(), " ms, and a second");
  require_that_all_verbs_fail<Stage>(engine);
  give_back(engine, std::move(side));
}

// Others may have left by then, which is an error as good as any.
template <class Stage, shard_engine E>
  requires has_abort<E>
void nothing_works_after_abort(E& engine) {
  auto side = std::make_unique<side_of_exchange<Stage>>(engine, every_pair(engine.size(), 100'000), 5);
  try {
    side->fill(0);
    auto request = engine.start(side->plan, side->send->data(), side->receive->data());
    engine.abort();
    if (engine.size() > 1) require_failure(engine, "finish after abort", [&] { engine.finish(request); });
  } catch (const error&) {
  }
  give_back(engine, std::move(side));
  require_that_all_verbs_fail<Stage>(engine);
}

// A request can't go away under way without harm, as when an exception passes by; but without a crash.
template <class Stage, shard_engine E>
void a_request_that_goes_away_takes_the_engine_with_it(E& engine) {
  auto side = std::make_unique<side_of_exchange<Stage>>(engine, every_pair(engine.size(), 1'000'000), 6);
  try {
    side->fill(0);
    auto request = engine.start(side->plan, side->send->data(), side->receive->data());
    if (engine.test(request)) return;  // it was quick
  } catch (const error&) {
  }
  require_that_all_verbs_fail<Stage>(engine);
  give_back(engine, std::move(side));
}

// allocations() counts them, on the threads that call engines; three steps to settle, then none.
template <class Stage, shard_engine E, class Count>
void repeating_allocates_nothing(E& engine, Count allocations) {
  side_of_exchange<Stage> first(engine, random_legs(engine.size(), 7, 4000), 7);
  side_of_exchange<Stage> second(engine, random_legs(engine.size(), 8, 200'000), 8);
  repeated_exchange<E> one(engine, first.plan, first.send->data(), first.receive->data());
  repeated_exchange<E> other(engine, second.plan, second.send->data(), second.receive->data());
  std::vector<std::byte> flags(static_cast<std::size_t>(engine.size()) * 64);
  Stage all(flags);
  long before = 0;
  for (int step = 0; step < 13; ++step) {
    if (step == 3) before = allocations();
    engine.all_gather_small(all.data(), 64);
    one.start(engine);
    other.start(engine);
    one.finish(engine);
    other.finish(engine);
  }
  if constexpr (has_stream<E>) engine.wait();
  const long after = allocations();
  engine.all_gather_small(all.data(), 1);  // others may still be counting where all share a process
  require(after == before, engine, "ten steps made ", after - before, " allocations");
}

}  // namespace normuon::testing

#endif
