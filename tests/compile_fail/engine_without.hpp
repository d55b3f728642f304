// An engine without one verb: that which is defined as WITHOUT_...
#include <normuon/shards/engine.hpp>

struct engine_without {
#ifndef WITHOUT_REQUEST
  using request = int;
#endif
#ifndef WITHOUT_RANK
  int rank() { return 0; }
#endif
#ifndef WITHOUT_SIZE
  int size() { return 1; }
#endif
#ifndef WITHOUT_GATHER
  void all_gather_small(void*, std::size_t) {}
#endif
#ifndef WITHOUT_START
  int start(const normuon::exchange&, const void*, void*) { return {}; }
#endif
#ifndef WITHOUT_TEST
  bool test(int&) { return true; }
#endif
#ifndef WITHOUT_FINISH
  void finish(int&) {}
#endif
};

void refused(engine_without& engine) { normuon::open_connections(engine, {}); }
