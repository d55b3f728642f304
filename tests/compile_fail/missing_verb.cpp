// expect: engine.finish(request)
// An engine that can't wait: the message names the verb that is missing.
#include <normuon/shards/engine.hpp>

struct no_finish {
  struct request {};
  int rank() { return 0; }
  int size() { return 1; }
  void all_gather_small(void*, std::size_t) {}
  request start(const normuon::exchange&, const void*, void*) { return {}; }
  bool test(request&) { return true; }
};

void refused(no_finish& engine) { normuon::warm_up(engine, {}); }
