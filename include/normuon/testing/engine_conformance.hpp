// The laws of `shard_engine` as tests. A third party's doctest program needs one line for an engine of its own, where
// run(law) calls law(engine) for each rank that this process holds, each time with new engines, and throws what one of
// them throws. Under mpirun that is one rank,
//
//   TEST_CASE("my engine keeps the laws") { normuon::testing::check_engine([](auto law) { law(my_engine()); }); }
//
// and every process calls it. Where all ranks live in one process, run starts a thread or a child for each and waits
// for all of them; it may do so for several numbers of ranks, one after the other: 1, 2, 3 and more. What an engine
// offers besides is tested where it has it.
#ifndef NORMUON_TESTING_ENGINE_CONFORMANCE_HPP
#define NORMUON_TESTING_ENGINE_CONFORMANCE_HPP

#include <doctest/doctest.h>

#include "normuon/testing/conformance/exchange_laws.hpp"
#include "normuon/testing/conformance/waiting_laws.hpp"

namespace normuon::testing {

// Checks all laws. To be called from a doctest test case, once. Stage: memory of the engine's kind.
template <class Stage = host_stage, class Run>
void check_engine(Run run) {
  const auto check = [&](auto law) {
    try {
      run([law](auto engine) {
        static_assert(shard_engine<decltype(engine)>, "what run() passes on is no shard_engine");
        law(engine);
      });
    } catch (const std::exception& e) {
      FAIL_CHECK(std::string(e.what()));
    }
  };
  SUBCASE("a gather brings each rank's piece to its place") {
    check([](auto& e) { a_gather_brings_each_rank_s_piece_to_its_place<Stage>(e); });
  }
  SUBCASE("finish waits until all is moved") {
    check([](auto& e) { an_exchange_moves_what_is_planned<Stage>(e, false); });
  }
  SUBCASE("test alone gets all moved") {
    check([](auto& e) { an_exchange_moves_what_is_planned<Stage>(e, true); });
  }
  SUBCASE("ranks without legs may leave an exchange out") {
    check([](auto& e) { ranks_without_legs_may_leave_an_exchange_out<Stage>(e); });
  }
  SUBCASE("short legs arrive in the order in which they were sent") {
    check([](auto& e) { legs_arrive_in_the_order_in_which_they_were_sent<Stage>(e, 24); });
  }
  SUBCASE("long legs arrive in the order in which they were sent") {
    check([](auto& e) { legs_arrive_in_the_order_in_which_they_were_sent<Stage>(e, 150'000); });
  }
  SUBCASE("an exchange can be repeated") {
    check([](auto& e) { an_exchange_can_be_repeated<Stage>(e); });
  }
  SUBCASE("what is prepared is complete until it is restarted") {
    check([]<class E>(E& e) {
      if constexpr (has_prepare<E>) what_is_prepared_is_complete_until_it_is_restarted<Stage>(e);
    });
  }
  SUBCASE("paths can be opened beforehand") {
    check([](auto& e) { paths_can_be_opened_beforehand<Stage>(e); });
  }
  SUBCASE("an engine can be moved") {
    check([](auto& e) { an_engine_can_be_moved<Stage>(e); });
  }
  SUBCASE("test does not wait for a peer") {
    check([](auto& e) { test_does_not_wait_for_a_peer<Stage>(e); });
  }
  SUBCASE("who waits in a gather moves exchanges") {
    check([](auto& e) { who_waits_in_a_gather_moves_exchanges<Stage>(e); });
  }
  SUBCASE("finish waits no longer than the deadline") {
    check([]<class E>(E& e) {
      if constexpr (has_deadline<E>) a_verb_waits_no_longer_than_the_deadline<Stage>(e, false);
    });
  }
  SUBCASE("a gather waits no longer than the deadline") {
    check([]<class E>(E& e) {
      if constexpr (has_deadline<E>) a_verb_waits_no_longer_than_the_deadline<Stage>(e, true);
    });
  }
  SUBCASE("nothing works after abort") {
    check([]<class E>(E& e) {
      if constexpr (has_abort<E>) nothing_works_after_abort<Stage>(e);
    });
  }
  SUBCASE("a request that goes away takes the engine with it") {
    check([](auto& e) { a_request_that_goes_away_takes_the_engine_with_it<Stage>(e); });
  }
}

// The same for what allocations() counts, in a program that can count them: none in steps that repeat.
template <class Stage = host_stage, class Run, class Count>
void check_that_engine_allocates_nothing(Run run, Count allocations) {
  try {
    run([&](auto engine) { repeating_allocates_nothing<Stage>(engine, allocations); });
  } catch (const std::exception& e) {
    FAIL_CHECK(std::string(e.what()));
  }
}

}  // namespace normuon::testing

#endif
