// The main() of every test program.
//   PROGRAM          as doctest does it by itself; PROGRAM --help lists its options
//   PROGRAM --tap    for `meson test`: a TAP line for each test case on standard output, the rest on standard error
// rapidcheck prints the seed of its random cases by itself; RC_PARAMS="seed=..." repeats them.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "tap_reporter.hpp"

using normuon::test::tap_reporter;
DOCTEST_REGISTER_REPORTER("tap", 0, tap_reporter);

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  normuon::test::choose_reporters(context, argc, argv);
  return context.run();
}
