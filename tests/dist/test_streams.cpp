// Where an engine's verbs are ordered on a stream the host waits by the engine, which has a deadline.
#include <doctest/doctest.h>

#include "dist/sharded_model.hpp"
#include "normuon/shards/loopback.hpp"
#include "support/archetype_backend.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// What a stream has been asked for, and how the host waited for it.
struct watched_stream {
  bool has_exchange = false;  // since the host waited by the engine
  int waits = 0, waits_for_ever = 0;
};

// A device, as far as the optimizer knows: what its memory points to is not the host's.
class device_backend : public archetype_backend {
 public:
  explicit device_backend(watched_stream& stream) : stream_(&stream) {}

  void sync() { ++(stream_->has_exchange ? stream_->waits_for_ever : stream_->waits); }
  void read(void* to, const void* from, std::size_t bytes) {  // into memory that is not pinned, which may wait
    sync();
    archetype_backend::read(to, from, bytes);
  }
  void note_verdicts(verdict* mine, flags ok) {
    for (std::size_t i = 0; i < ok.size(); ++i) mine[i] = checked(mine[i], *ok[i] != 0);
  }
  void agree(flags ok, const verdict* all, std::size_t pitch, int ranks) {
    for (std::size_t i = 0; i < ok.size(); ++i) *ok[i] = lets_move(agreed(all + i, pitch, ranks)) ? 1 : 0;
  }

 private:
  watched_stream* stream_;
};

class stream_engine : public loopback {
 public:
  stream_engine(loopback engine, watched_stream& stream) : loopback(std::move(engine)), stream_(&stream) {}

  int stream() const { return 0; }
  void wait() { stream_->has_exchange = false; }
  void all_gather_small(void* all, std::size_t bytes) {
    stream_->has_exchange = true;
    loopback::all_gather_small(all, bytes);
  }
  request start(const exchange& e, const void* send, void* receive) {
    stream_->has_exchange = true;
    return loopback::start(e, send, receive);
  }
  void restart(request& r) {
    stream_->has_exchange = true;
    loopback::restart(r);
  }

 private:
  watched_stream* stream_;
};

}  // namespace

TEST_CASE("on a device the host never waits behind an exchange or a gather but by the engine, which has a deadline") {
  const std::vector<spread_parameter> parameters = {
      {"rows", normuon_options::paper(), 6, 9, 1, [](int) { return layout::rows(); }},
      {"replicated", muon_options::jordan(), 5, 5},
      {"adamw", adamw_options{}, 7, 3, 1, [](int) { return layout::rows(); }}};
  for (const non_finite_policy policy : {non_finite_policy::skip, non_finite_policy::raise})
    run_loopback(2, {}, [&](loopback engine) {
      watched_stream stream;
      spread_trainer<device_backend, stream_engine, double> trainer(
          parameters, stream_engine(std::move(engine), stream), {.non_finite = policy}, device_backend(stream));
      for (int step = 0; step < 3; ++step) {
        trainer.step(step);
        trainer.opt.report();
        trainer.opt.step_changes();
        trainer.opt.report();
      }
      CHECK(stream.waits > 0);
      CHECK(stream.waits_for_ever == 0);
    }).rethrow_first();
}
