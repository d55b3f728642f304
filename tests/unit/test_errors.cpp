#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <locale>
#include <sstream>
#include <string>

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

namespace {

// Writes 1234567.5 as 1'234'567~5.
struct other_marks : std::numpunct<char> {
  char do_thousands_sep() const override { return '\''; }
  std::string do_grouping() const override { return "\3"; }
  char do_decimal_point() const override { return '~'; }
};

}  // namespace

TEST_CASE("the parts of a message are written as a stream of the C locale writes them, whatever the locale is") {
  const std::locale before = std::locale::global(std::locale(std::locale(), new other_marks));
  const auto check = [](const auto& part) {
    std::ostringstream text;
    text.imbue(std::locale::classic());
    text << part;
    CHECK(message_of("<", part, ">") == "<" + text.str() + ">");
  };
  check("text");
  check(std::string("a string"));
  check(std::string_view());
  const char* const pointer = "a pointer";
  check(pointer);
  char array[] = "an array";
  check(array);
  check('c');
  for (const double x : {0.0, -0.0, 0.1, 1.0 / 3, -2.5, 123456.0, 1234567.0, 1e-5, 1e-4, 1e300, 5e-324}) {
    check(x);
    check(static_cast<float>(x));
  }
  check(std::numeric_limits<double>::infinity());
  check(-std::numeric_limits<double>::infinity());
  check(std::numeric_limits<double>::quiet_NaN());
  const auto check_ends_of = [&]<class T>(T) {
    check(std::numeric_limits<T>::min());
    check(std::numeric_limits<T>::max());
  };
  check_ends_of(short()), check_ends_of(int()), check_ends_of(long()), check_ends_of(std::size_t());
  check_ends_of(0LL), check_ends_of(0ULL), check_ends_of(0U);
  CHECK(message_of(true, std::uint8_t(7)) == "17");  // small integers are numbers
  CHECK(message_of(static_cast<const char*>(nullptr)) == "nothing");
  std::locale::global(before);
}
