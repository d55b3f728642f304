#include <doctest/doctest.h>

#include "07_custom_engine_ranks.hpp"
#include "normuon/testing/engine_conformance.hpp"

TEST_CASE("a third party's engine over sockets keeps the laws") {
  normuon::testing::check_engine([](auto law) {
    for (const int size : {1, 2, 4}) fork_ranks(size, law);
  });
}
