// What ranks do together outside of a step: it succeeds on all of them or fails on all.
#include <doctest/doctest.h>

#include "normuon/backends/eigen.hpp"
#include "normuon/optimizer/together.hpp"
#include "normuon/shards/loopback.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// What act(engine) throws on each rank of three when they try it together.
template <class Act>
loopback_result tried_by_three(Act&& act) {
  return run_loopback(3, {}, [&](loopback engine) {
    eigen_backend b({.threads = 1});
    act_together(b, engine, [&] { act(engine); });
  });
}

refusal refusal_on(const loopback_result& result, std::size_t rank) {
  return refusal_of([&] {
    if (result.thrown[rank]) std::rethrow_exception(result.thrown[rank]);
  });
}

}  // namespace

TEST_CASE("where one rank fails it keeps its own error, and the others say whose it was") {
  const loopback_result result = tried_by_three([](loopback& engine) {
    if (engine.rank() == 1) fail(error_code::file, "no room");
  });
  CHECK(refusal_on(result, 1).is(error_code::file));
  CHECK(refusal_on(result, 1).message == "no room");
  for (const std::size_t other : {0u, 2u}) {
    CHECK(refusal_on(result, other).is(error_code::file));
    CHECK(refusal_on(result, other).message == "rank 1: no room");
  }
  CHECK_NOTHROW(tried_by_three([](loopback&) {}).rethrow_first());
}

TEST_CASE("an exception that is none of the standard library's is an error on all other ranks") {
  const loopback_result result = tried_by_three([](loopback& engine) {
    if (engine.rank() == 1) throw 7;
  });
  CHECK_THROWS_AS(std::rethrow_exception(result.thrown[1]), int);
  for (const std::size_t other : {0u, 2u})
    CHECK(refusal_on(result, other).is(error_code::backend, "rank 1: an exception that is no std::exception"));
}

TEST_CASE("a rank that has failed keeps its own error also where its peers can't be told") {
  const loopback_result result = tried_by_three([](loopback& engine) {
    if (engine.rank() != 1) return;
    engine.abort();
    fail(error_code::file, "no room");
  });
  CHECK(refusal_on(result, 1).is(error_code::file));
  CHECK(refusal_on(result, 1).message == "no room");
  for (const std::size_t other : {0u, 2u}) CHECK(refusal_on(result, other).is(error_code::engine, "rank 1"));
}
