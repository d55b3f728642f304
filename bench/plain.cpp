#include <normuon/bench/register_backend.hpp>

#include "02_custom_backend.hpp"
#include "suites.hpp"

void register_plain(const normuon::bench::settings& s) {
  normuon::bench::register_backend<plain_backend>(
      "plain", [](int threads) { return plain_backend({.threads = threads}); }, s);
}
