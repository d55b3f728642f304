#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "training.hpp"

TEST_CASE("translation units built for different processors are linked into one program and train alike") {
  const std::vector<float> here = trained_here(), elsewhere = trained_elsewhere();
  REQUIRE(here.size() == elsewhere.size());
  float difference = 0, largest = 0;
  for (std::size_t i = 0; i < here.size(); ++i) {
    difference = std::max(difference, std::abs(here[i] - elsewhere[i]));
    largest = std::max(largest, std::abs(here[i]));
  }
  // Each may sum its products in an order of its own: fp32 roundings, grown by the iteration, but far from a
  // thousandth.
  CHECK(difference <= 1e-3f * largest);
  CHECK(largest > 0);
}

TEST_CASE("what one translation unit trains does not depend on what another did before") {
  const std::vector<float> before = trained_here();
  trained_elsewhere();
  CHECK(trained_here() == before);
}
