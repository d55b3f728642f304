// expect: engine.test(request)
// An engine whose test() says nothing: the message names the verb.
#include <normuon/shards/engine.hpp>

struct silent_test {
  struct request {};
  int rank() { return 0; }
  int size() { return 1; }
  void all_gather_small(void*, std::size_t) {}
  request start(const normuon::exchange&, const void*, void*) { return {}; }
  void test(request&) {}
  void finish(request&) {}
};

void refused(silent_test& engine) { normuon::warm_up(engine, {}); }
