#include <doctest/doctest.h>

#include <string>

#include "normuon/version.hpp"

TEST_CASE("the header's version is the one that the build declares") {
  using std::to_string;
  const std::string version = to_string(normuon::version_major) + '.' + to_string(normuon::version_minor) + '.' +
                              to_string(normuon::version_patch);
  CHECK(version == NORMUON_DECLARED_VERSION);
}
