// An engine for a device's memory over any engine for the host's: what travels goes through pinned memory of the host.
// For ranks whose library moves no device memory, and for several on one device, which NCCL refuses. The host waits for
// the device wherever something is sent. Programs link the CUDA runtime. It has run on a stand-in for that only.
#ifndef NORMUON_SHARDS_THROUGH_HOST_HPP
#define NORMUON_SHARDS_THROUGH_HOST_HPP

#include <memory>
#include <string>

#include "normuon/backends/cuda/resources.hpp"
#include "normuon/shards/engine.hpp"

namespace normuon {

template <shard_engine Host>
class through_host {
  static_assert(!has_stream<Host>, "expected an engine that moves the host's memory");

  // What an engine and its requests share.
  struct state {
    std::string failure;    // why no verb works any more
    bool gave_up = false;   // the engine below is aborted
    bool holds_on = false;  // and can't give up what was on its way
  };

  // Pinned memory that goes away with its owner, unless the engine below may still move bytes there.
  class host_copy {
   public:
    host_copy(const through_host& t, std::size_t bytes)
        : state_(t.state_), stream_(t.stream_), memory_(make_pinned_memory(bytes)), size_(bytes) {}
    host_copy(const host_copy&) = delete;
    host_copy& operator=(const host_copy&) = delete;
    ~host_copy() {
      if (state_->holds_on || (in_use && !state_->gave_up)) (void)memory_.release();
      else (void)cudaStreamSynchronize(stream_);  // for what is copied from here
    }
    std::byte* data() const { return static_cast<std::byte*>(memory_.get()); }
    std::size_t size() const { return size_; }

    bool in_use = false;  // by the engine below

   private:
    std::shared_ptr<const state> state_;
    cudaStream_t stream_;
    pinned_memory memory_;
    std::size_t size_;
  };

 public:
  // One that goes away under way takes the engine with it.
  class request {
    friend through_host;
    struct body {
      body(through_host& t, const exchange& e, const void* from, void* to)
          : send(static_cast<const std::byte*>(from)),
            receive(static_cast<std::byte*>(to)),
            legs(e),
            here(t, end_of(e.send) + end_of(e.receive)),
            sent(here.data()),
            received(here.data() + end_of(e.send)),
            below(t.host_, e, sent, received) {}

      const std::byte* send;
      std::byte* receive;
      const exchange& legs;
      host_copy here;  // of what is sent, then of what is received
      std::byte *sent, *received;
      repeated_exchange<Host> below;
    };
    explicit request(std::unique_ptr<body> b) : body_(std::move(b)) {}

    std::unique_ptr<body> body_;
  };

  // `stream` is borrowed: a backend's own. Its device is to be current at every call.
  through_host(Host engine, cudaStream_t stream) : host_(std::move(engine)), stream_(stream) {}

  int rank() const { return host_.rank(); }
  int size() const { return host_.size(); }
  cudaStream_t stream() const { return stream_; }

  void all_gather_small(void* all, std::size_t bytes) {
    require_ready();
    const std::size_t mine = static_cast<std::size_t>(rank()) * bytes, whole = static_cast<std::size_t>(size()) * bytes;
    if (!gathered_ || gathered_->size() < whole) {
      wait();  // for what is copied from the smaller one
      gathered_ = std::make_unique<host_copy>(*this, whole);
    }
    copy(gathered_->data() + mine, static_cast<const std::byte*>(all) + mine, bytes, cudaMemcpyDeviceToHost);
    wait();
    gathered_->in_use = true;
    host_.all_gather_small(gathered_->data(), bytes);
    gathered_->in_use = false;
    copy(static_cast<std::byte*>(all), gathered_->data(), whole, cudaMemcpyHostToDevice);
  }

  request start(const exchange& e, const void* send, void* receive) {
    request r = prepare(e, send, receive);
    restart(r);
    return r;
  }
  request prepare(const exchange& e, const void* send, void* receive) {
    require_ready();
    return request(std::make_unique<typename request::body>(*this, e, send, receive));
  }
  void restart(request& r) {
    require_ready();
    auto& b = *r.body_;
    if (b.here.in_use) fail(error_code::engine, "expected a request that is complete, got one that is under way");
    for (const leg& l : b.legs.send) copy(b.sent + l.offset, b.send + l.offset, l.bytes, cudaMemcpyDeviceToHost);
    wait();
    b.here.in_use = true;
    b.below.start(host_);
  }
  bool test(request& r) {
    require_ready();
    const bool complete = r.body_->below.test(host_);
    if (complete) bring(*r.body_);
    return complete;
  }
  void finish(request& r) {
    require_ready();
    r.body_->below.finish(host_);
    bring(*r.body_);
  }
  void wait() {
    require_ready();
    require(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  }

  void set_deadline(std::chrono::milliseconds deadline)
    requires has_deadline<Host>
  {
    host_.set_deadline(deadline);
  }
  // Always true: what the engine below may still write into are the host's copies, which are kept then.
  bool abort()
    requires has_abort<Host>
  {
    if (state_->failure.empty()) state_->failure = "it was aborted";
    give_up();
    return true;
  }

 private:
  void require_ready() const {
    if (!state_->failure.empty())
      fail(error_code::engine, "rank ", rank(), ": the engine has failed: ", state_->failure);
  }
  void give_up() {
    if constexpr (has_abort<Host>) {
      state_->holds_on |= !host_.abort();
      state_->gave_up = true;
    }
  }
  void require(cudaError_t status, const char* call) {
    if (status == cudaSuccess) return;
    (void)cudaGetLastError();  // the next call shall not be blamed for it
    state_->failure = message_of(call, ": ", cudaGetErrorName(status), ", ", cudaGetErrorString(status));
    give_up();
    require_ready();
  }
  static std::size_t end_of(const std::vector<leg>& legs) {
    std::size_t end = 0;
    for (const leg& l : legs) end = std::max(end, l.offset + l.bytes);
    return end;
  }
  void copy(std::byte* to, const std::byte* from, std::size_t bytes, cudaMemcpyKind kind) {
    if (bytes != 0) require(cudaMemcpyAsync(to, from, bytes, kind, stream_), "cudaMemcpyAsync");
  }
  // What has come to the host goes to the device, once.
  void bring(typename request::body& b) {
    if (!std::exchange(b.here.in_use, false)) return;
    for (const leg& l : b.legs.receive)
      copy(b.receive + l.offset, b.received + l.offset, l.bytes, cudaMemcpyHostToDevice);
  }

  std::shared_ptr<state> state_ = std::make_shared<state>();
  Host host_;
  cudaStream_t stream_;
  std::unique_ptr<host_copy> gathered_;
};

}  // namespace normuon

#endif
