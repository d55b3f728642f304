#include <doctest/doctest.h>

#include "normuon/errors.hpp"

using namespace normuon;

TEST_CASE("every kind of error has a name, and a message is its parts in the C locale") {
  CHECK(name_of(error_code::option) == "option");
  CHECK(name_of(error_code::parameter) == "parameter");
  CHECK(name_of(error_code::gradient) == "gradient");
  CHECK(name_of(error_code::non_finite) == "non-finite");
  CHECK(name_of(error_code::state) == "state");
  CHECK(name_of(error_code::backend) == "backend");
  CHECK(name_of(error_code::poisoned) == "poisoned");
  CHECK(name_of(error_code::file) == "file");
  CHECK(name_of(error_code::device) == "device");
  CHECK(name_of(error_code::engine) == "engine");
  try {
    fail(error_code::state, "expected ", 1234567, ", got ", 0.5);
  } catch (const error& e) {
    CHECK(e.code() == error_code::state);
    CHECK(std::string_view(e.what()) == "expected 1234567, got 0.5");
  }
}
