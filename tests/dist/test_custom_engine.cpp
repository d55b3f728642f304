#include <doctest/doctest.h>

#include <fstream>
#include <string>

#include "07_custom_engine_ranks.hpp"
#include "normuon/testing/engine_conformance.hpp"

TEST_CASE("a third party's engine takes fewer than 100 lines") {
  std::ifstream file(NORMUON_GOLDEN_DIR "/../../examples/07_custom_engine.hpp");
  int lines = 0;
  for (std::string line; std::getline(file, line);) ++lines;
  CHECK(lines > 0);
  CHECK(lines < 100);
}

TEST_CASE("a third party's engine over sockets keeps the laws") {
  normuon::testing::check_engine([](auto law) {
    for (const int size : {1, 2, 4}) fork_ranks(size, law);
  });
}
