// The engine over NCCL: grouped sends and receives of bytes on a stream of its own, in device memory, ordered with the
// caller's stream by events. NCCL 2.18 or newer; programs link nccl and the CUDA runtime.
// It has been compiled and linked, and has not run on a GPU yet.
#ifndef NORMUON_SHARDS_NCCL_HPP
#define NORMUON_SHARDS_NCCL_HPP

#include <nccl.h>

#include <memory>
#include <string>
#include <thread>

#include "normuon/backends/cuda/resources.hpp"
#include "normuon/shards/engine.hpp"

namespace normuon {

struct nccl_options {
  std::chrono::milliseconds deadline{60'000};  // how long the host waits for a peer; at least 1
};

constexpr bool has_failed(ncclResult_t result) { return result != ncclSuccess && result != ncclInProgress; }

// What an engine and its requests share: two communicators, for exchanges and gathers keep no order with each other
// while NCCL wants one order on a communicator.
class nccl_connection {
 public:
  nccl_connection(const ncclUniqueId& id, int size_, int rank_, cudaStream_t stream_, std::chrono::milliseconds time)
      : stream(stream_), rank(rank_), size(size_), deadline(time), own(make_stream()), ready(make_event()) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;  // so that every wait can be one of ours, with its deadline
    check(ncclCommInitRankConfig(&exchanges, size, id, rank, &config), exchanges, "ncclCommInitRankConfig");
    settle(exchanges, "ncclCommInitRankConfig");
    check(ncclCommSplit(exchanges, 0, rank, &gathers, &config), exchanges, "ncclCommSplit");
    settle(exchanges, "ncclCommSplit");
    settle(gathers, "ncclCommSplit");
  }
  nccl_connection(const nccl_connection&) = delete;
  nccl_connection& operator=(const nccl_connection&) = delete;
  // What is under way is done first, unless something has failed or peers are late.
  ~nccl_connection() {
    for (ncclComm_t* comm : {&gathers, &exchanges})
      if (*comm && is_finalised(*comm)) ncclCommDestroy(std::exchange(*comm, nullptr));
    abort();
  }

  void require_ready() const {
    if (!failure.empty()) fail(error_code::engine, "rank ", rank, ": the engine has failed: ", failure);
  }
  // Also ends what is under way on the device, which would wait for ever.
  [[noreturn]] void break_down(std::string cause) {
    failure = std::move(cause);
    abort();
    fail(error_code::engine, "rank ", rank, ": ", failure);
  }
  void abort() noexcept {
    for (ncclComm_t* comm : {&gathers, &exchanges})
      if (*comm) ncclCommAbort(std::exchange(*comm, nullptr));
  }

  void check(ncclResult_t result, ncclComm_t comm, const char* call) {
    if (!has_failed(result)) return;
    break_down(std::string(call) + ": " + ncclGetErrorString(result) + ": " + ncclGetLastError(comm));
  }
  void check(cudaError_t status, const char* call) {
    if (status == cudaSuccess) return;
    cudaGetLastError();  // the next call shall not be blamed for it
    break_down(std::string(call) + ": " + cudaGetErrorName(status) + ", " + cudaGetErrorString(status));
  }
  // Errors come from a peer at any time: looked for at every verb.
  bool is_in_progress(ncclComm_t comm, const char* call) {
    ncclResult_t state = ncclSuccess;
    check(ncclCommGetAsyncError(comm, &state), comm, "ncclCommGetAsyncError");
    check(state, comm, call);
    return state == ncclInProgress;
  }
  // Until NCCL has put on the stream what it was asked to.
  void settle(ncclComm_t comm, const char* call) {
    wait(call, [&] { return !is_in_progress(comm, call); });
  }
  template <class Done>
  void wait(const char* what, Done done) {
    for (const auto end = std::chrono::steady_clock::now() + deadline; !done(); std::this_thread::yield())
      if (std::chrono::steady_clock::now() >= end)
        break_down("waited " + std::to_string(deadline.count()) + " ms in " + what + " for other ranks");
  }
  // True where all that was asked before the event, or on the stream, is done.
  bool is_done(cudaError_t query, const char* call) {
    is_in_progress(exchanges, "an exchange");
    is_in_progress(gathers, "a gather");
    if (is_pending(query)) return false;
    check(query, call);
    return true;
  }

  bool is_finalised(ncclComm_t comm) const noexcept {
    ncclResult_t state = ncclCommFinalize(comm);
    const auto end = std::chrono::steady_clock::now() + deadline;
    while (state == ncclInProgress && std::chrono::steady_clock::now() < end) {
      std::this_thread::yield();
      if (ncclCommGetAsyncError(comm, &state) != ncclSuccess) return false;
    }
    return state == ncclSuccess;
  }

  cudaStream_t stream;  // the caller's
  int rank, size;
  std::chrono::milliseconds deadline;
  cuda_stream own;   // exchanges move on it
  cuda_event ready;  // on the caller's stream: what is to be sent is written
  ncclComm_t exchanges = nullptr, gathers = nullptr;
  std::string failure;
};

class nccl_engine {
 public:
  // One that goes away under way takes the engine with it.
  class request {
   public:
    request(request&& other) noexcept = default;
    request& operator=(request&& other) noexcept {
      give_up();
      connection_ = std::move(other.connection_), done_ = std::move(other.done_);
      exchange_ = other.exchange_, send_ = other.send_, receive_ = other.receive_;
      under_way_ = std::exchange(other.under_way_, false);
      return *this;
    }
    ~request() { give_up(); }

   private:
    friend nccl_engine;
    request(std::shared_ptr<nccl_connection> connection, const exchange& e, const void* send, void* receive)
        : connection_(std::move(connection)),
          done_(make_event()),
          exchange_(&e),
          send_(static_cast<const std::byte*>(send)),
          receive_(static_cast<std::byte*>(receive)) {}
    void give_up() noexcept {
      if (!connection_ || !under_way_ || !connection_->failure.empty()) return;
      connection_->failure = "a request went away before it was complete";
      connection_->abort();
    }

    std::shared_ptr<nccl_connection> connection_;
    cuda_event done_;
    const exchange* exchange_;
    const std::byte* send_;
    std::byte* receive_;
    bool under_way_ = false;
  };

  // All ranks call it with the id that one of them got from ncclGetUniqueId and gave to the others. Works on the device
  // that is current, which is to be current at every call. `stream` is borrowed: a backend's own.
  // Throws error_code::engine, error_code::device and error_code::option.
  nccl_engine(const ncclUniqueId& id, int size, int rank, cudaStream_t stream, const nccl_options& options = {}) {
    if (size < 1 || rank < 0 || rank >= size)
      fail(error_code::option, "expected a rank of at least 0 and below the number of ranks, got ", rank, " of ", size);
    if (options.deadline.count() < 1)
      fail(error_code::option, "deadline: expected at least 1 ms, got ", options.deadline.count());
    connection_ = std::make_shared<nccl_connection>(id, size, rank, stream, options.deadline);
  }

  int rank() const { return connection_->rank; }
  int size() const { return connection_->size; }
  cudaStream_t stream() const { return connection_->stream; }

  void all_gather_small(void* all, std::size_t bytes) {
    nccl_connection& c = *connection_;
    c.require_ready();
    if (bytes == 0) return;
    const std::byte* const mine = static_cast<const std::byte*>(all) + static_cast<std::size_t>(c.rank) * bytes;
    c.check(ncclAllGather(mine, all, bytes, ncclUint8, c.gathers, c.stream), c.gathers, "ncclAllGather");
    c.settle(c.gathers, "ncclAllGather");
  }

  request start(const exchange& e, const void* send, void* receive) {
    request r = prepare(e, send, receive);
    restart(r);
    return r;
  }
  request prepare(const exchange& e, const void* send, void* receive) {
    connection_->require_ready();
    check_exchange(e, rank(), size());
    return {connection_, e, send, receive};
  }
  void restart(request& r) {
    nccl_connection& c = *connection_;
    c.require_ready();
    if (r.under_way_) fail(error_code::engine, "expected a request that is complete, got one that is under way");
    c.check(cudaEventRecord(c.ready.get(), c.stream), "cudaEventRecord");
    c.check(cudaStreamWaitEvent(c.own.get(), c.ready.get(), 0), "cudaStreamWaitEvent");
    r.under_way_ = true;
    const cudaStream_t own = c.own.get();
    c.check(ncclGroupStart(), c.exchanges, "ncclGroupStart");
    ncclResult_t posted = ncclSuccess;  // a group that was started is ended, whatever happens
    for (const leg& l : r.exchange_->receive)
      if (!has_failed(posted)) posted = ncclRecv(r.receive_ + l.offset, l.bytes, ncclUint8, l.peer, c.exchanges, own);
    for (const leg& l : r.exchange_->send)
      if (!has_failed(posted)) posted = ncclSend(r.send_ + l.offset, l.bytes, ncclUint8, l.peer, c.exchanges, own);
    const ncclResult_t ended = ncclGroupEnd();
    c.check(posted, c.exchanges, "ncclRecv and ncclSend");
    c.check(ended, c.exchanges, "ncclGroupEnd");
    c.settle(c.exchanges, "ncclGroupEnd");
    c.check(cudaEventRecord(r.done_.get(), own), "cudaEventRecord");
  }
  bool test(request& r) {
    connection_->require_ready();
    if (r.under_way_) r.under_way_ = !connection_->is_done(cudaEventQuery(r.done_.get()), "cudaEventQuery");
    return !r.under_way_;
  }
  // What is asked on the stream from now on finds what was received; the host does not wait.
  void finish(request& r) {
    connection_->require_ready();
    if (!r.under_way_) return;
    connection_->check(cudaStreamWaitEvent(connection_->stream, r.done_.get(), 0), "cudaStreamWaitEvent");
    r.under_way_ = false;
  }
  void wait() {
    connection_->require_ready();
    const cudaStream_t stream = connection_->stream;
    connection_->wait("cudaStreamQuery",
                      [&] { return connection_->is_done(cudaStreamQuery(stream), "cudaStreamQuery"); });
  }

  void set_deadline(std::chrono::milliseconds deadline) { connection_->deadline = deadline; }
  bool abort() {
    if (connection_->failure.empty()) connection_->failure = "it was aborted";
    connection_->abort();
    return true;
  }

 private:
  std::shared_ptr<nccl_connection> connection_;
};

static_assert(shard_engine<nccl_engine> && has_prepare<nccl_engine> && has_stream<nccl_engine>);
static_assert(has_deadline<nccl_engine> && has_abort<nccl_engine>);

}  // namespace normuon

#endif
