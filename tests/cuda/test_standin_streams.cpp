// The stand-in's streams and events: when work runs, and in which order.
#include <set>
#include <vector>

#include "standin_support.hpp"

namespace {

// Appends a digit, so that a number tells in which order kernels ran.
__global__ void append(int* log, int digit) { *log = 10 * *log + digit; }

cudaError_t append_in(cudaStream_t s, int* log, int digit) { return standin::launch(append, 1, 1, s, log, digit); }

int* new_log() { return on_device(std::vector<int>{0}); }

}  // namespace

TEST_CASE("work waits until something forces it, and keeps the order of its stream") {
  restart();
  const cudaStream_t s = new_stream();
  int* log = new_log();
  for (int digit = 1; digit <= 5; ++digit) CHECK(append_in(s, log, digit) == cudaSuccess);
  CHECK(value_at(log) == 0);
  CHECK(standin::queued() == 5);
  CHECK(standin::waits() == 0);
  CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(value_at(log) == 12345);
  CHECK(standin::waits() == 1);
  CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(standin::waits() == 1);  // there was nothing to wait for
  CHECK(append_in(s, log, 6) == cudaSuccess);
  standin::run_everything();
  CHECK(value_at(log) == 123456);
  CHECK(standin::waits() == 1);
}

TEST_CASE("streams without an event between them run in either order, with one in one order") {
  for (const bool with_event : {false, true}) {
    std::set<int> orders;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      restart(seed);
      const cudaStream_t a = new_stream(), b = new_stream();
      int* log = new_log();
      CHECK(append_in(a, log, 1) == cudaSuccess);
      if (with_event) {
        const cudaEvent_t e = new_event();
        CHECK(cudaEventRecord(e, a) == cudaSuccess);
        CHECK(cudaStreamWaitEvent(b, e, 0) == cudaSuccess);
        CHECK(cudaEventDestroy(e) == cudaSuccess);  // what waits for it still does
      }
      CHECK(append_in(b, log, 2) == cudaSuccess);
      CHECK(cudaStreamSynchronize(b) == cudaSuccess);
      CHECK(cudaStreamSynchronize(a) == cudaSuccess);
      orders.insert(value_at(log));
    }
    CHECK(orders == (with_event ? std::set<int>{12} : std::set<int>{12, 21}));
  }
}

TEST_CASE("to wait for one stream says nothing about another") {
  const int late = seeds_with(20, [] {
    const cudaStream_t a = new_stream(), b = new_stream();
    int *x = new_log(), *y = new_log();
    REQUIRE(append_in(a, x, 1) == cudaSuccess);
    REQUIRE(append_in(b, y, 1) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(b) == cudaSuccess);
    CHECK(value_at(y) == 1);
    return value_at(x) == 0;
  });
  CHECK(late > 0);
  CHECK(late < 20);
}

TEST_CASE("a pinned buffer reused before the copy ran gives a wrong result, after it ran a right one") {
  for (const bool waits : {false, true}) {
    restart();
    const cudaStream_t s = new_stream();
    int *y = on_device<int>(2), *h = on_pinned<int>(1);
    *h = 1;
    CHECK(cudaMemcpyAsync(y, h, 4, cudaMemcpyHostToDevice, s) == cudaSuccess);
    if (waits) CHECK(cudaStreamSynchronize(s) == cudaSuccess);
    *h = 2;
    CHECK(cudaMemcpyAsync(y + 1, h, 4, cudaMemcpyHostToDevice, s) == cudaSuccess);
    CHECK(cudaStreamSynchronize(s) == cudaSuccess);
    CHECK(standin::peek(y, 2) == std::vector<int>{waits ? 1 : 2, 2});
  }
}

TEST_CASE("what comes back to pinned memory is there after a wait, not before") {
  restart();
  const cudaStream_t s = new_stream();
  int *x = on_device(std::vector<int>{7}), *h = on_pinned<int>(1);
  *h = 0;
  CHECK(cudaMemcpyAsync(h, x, 4, cudaMemcpyDeviceToHost, s) == cudaSuccess);
  CHECK(*h == 0);
  CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(*h == 7);
}

TEST_CASE("pageable memory is read at once, may be written at once or later, and may cost a wait") {
  restart();
  const cudaStream_t s = new_stream();
  int *y = on_device<int>(1), host = 1;
  CHECK(cudaMemcpyAsync(y, &host, 4, cudaMemcpyHostToDevice, s) == cudaSuccess);
  host = 2;
  CHECK(standin::waits() == 0);
  CHECK(cudaMemcpyAsync(y, y, 0, cudaMemcpyDeviceToDevice, s) == cudaSuccess);
  CHECK(cudaMemcpyAsync(y, &host, 0, cudaMemcpyHostToDevice, s) == cudaSuccess);
  CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(value_at(y) == 1);
  const int at_once = seeds_with(20, [] {
    const cudaStream_t t = new_stream();
    int *x = on_device(std::vector<int>{7}), back = 0;
    REQUIRE(cudaMemcpyAsync(&back, x, 4, cudaMemcpyDeviceToHost, t) == cudaSuccess);
    CHECK(standin::waits() == 1);
    const bool there = back == 7;
    REQUIRE(cudaStreamSynchronize(t) == cudaSuccess);
    CHECK(back == 7);
    return there;
  });
  CHECK(at_once > 0);
  CHECK(at_once < 20);
}

TEST_CASE("the legacy stream and blocking streams wait for each other, non-blocking ones don't") {
  for (const unsigned flags : {0u, 1u}) {  // cudaStreamDefault, cudaStreamNonBlocking
    std::set<int> orders;
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
      restart(seed);
      const cudaStream_t s = new_stream(flags);
      int* log = new_log();
      CHECK(append_in(s, log, 1) == cudaSuccess);
      CHECK(append_in(nullptr, log, 2) == cudaSuccess);
      CHECK(append_in(s, log, 3) == cudaSuccess);
      CHECK(cudaStreamSynchronize(nullptr) == cudaSuccess);
      CHECK(cudaStreamSynchronize(s) == cudaSuccess);
      orders.insert(value_at(log));
    }
    CHECK(orders == (flags == 0 ? std::set<int>{123} : std::set<int>{123, 213, 132}));
  }
}

TEST_CASE("work of a stream that was destroyed still runs, and the stream is gone") {
  restart();
  const cudaStream_t s = new_stream();
  int* log = new_log();
  CHECK(append_in(s, log, 1) == cudaSuccess);
  CHECK(cudaStreamDestroy(s) == cudaSuccess);
  CHECK(standin::queued() == 1);
  standin::run_everything();
  CHECK(value_at(log) == 1);
  CHECK(cudaStreamDestroy(s) == cudaErrorInvalidResourceHandle);
  CHECK(cudaStreamSynchronize(s) == cudaErrorInvalidResourceHandle);
  CHECK(append_in(s, log, 1) == cudaErrorInvalidResourceHandle);
  CHECK(cudaStreamDestroy(nullptr) == cudaErrorInvalidResourceHandle);
  const cudaEvent_t e = new_event();
  CHECK(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(e)) == cudaErrorInvalidResourceHandle);
}

TEST_CASE("a query tells the truth, and asking often enough ends in success") {
  restart();
  const cudaStream_t s = new_stream();
  const cudaEvent_t e = new_event();
  int* log = new_log();
  CHECK(cudaEventQuery(e) == cudaSuccess);  // "an event represents an empty set of work"
  CHECK(cudaEventSynchronize(e) == cudaSuccess);
  for (int i = 0; i < 9; ++i) CHECK(append_in(s, log, 1) == cudaSuccess);
  CHECK(cudaEventRecord(e, s) == cudaSuccess);
  CHECK(cudaEventQuery(e) == cudaErrorNotReady);
  CHECK(cudaStreamQuery(s) == cudaErrorNotReady);
  CHECK(value_at(log) != 111111111);
  int queries = 0;
  while (cudaEventQuery(e) == cudaErrorNotReady) ++queries;
  CHECK(queries < 20);
  CHECK(value_at(log) == 111111111);
  CHECK(cudaStreamQuery(s) == cudaSuccess);
  for (int i = 0; i < 9; ++i) CHECK(append_in(s, new_log(), 1) == cudaSuccess);
  queries = 0;
  while (queries < 20 && cudaStreamQuery(s) == cudaErrorNotReady) ++queries;
  CHECK(queries > 0);
  CHECK(queries < 20);
  CHECK(standin::waits() == 0);
}

TEST_CASE("an event means what it recorded last, and those who wait what it had recorded then") {
  std::set<int> orders;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    restart(seed);
    const cudaStream_t a = new_stream(), b = new_stream();
    const cudaEvent_t e = new_event();
    int* log = new_log();
    CHECK(append_in(a, log, 1) == cudaSuccess);
    CHECK(cudaEventRecord(e, a) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(b, e, 0) == cudaSuccess);
    CHECK(append_in(a, log, 2) == cudaSuccess);
    CHECK(cudaEventRecord(e, a) == cudaSuccess);
    CHECK(append_in(b, log, 3) == cudaSuccess);
    CHECK(cudaEventSynchronize(e) == cudaSuccess);
    const int then = value_at(log);
    CHECK((then == 12 || then == 123 || then == 132));
    CHECK(cudaStreamSynchronize(b) == cudaSuccess);
    orders.insert(value_at(log));
  }
  CHECK(orders == std::set<int>{123, 132});
}

TEST_CASE("times are between timed events that have completed") {
  restart();
  const cudaStream_t s = new_stream();
  const cudaEvent_t first = new_event(cudaEventDefault), last = new_event(cudaEventDefault), untimed = new_event();
  float ms = -1;
  CHECK(cudaEventElapsedTime(&ms, first, last) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventRecord(first, s) == cudaSuccess);
  CHECK(append_in(s, new_log(), 1) == cudaSuccess);
  CHECK(cudaEventRecord(last, s) == cudaSuccess);
  CHECK(cudaEventRecord(untimed, s) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&ms, first, last) == cudaErrorNotReady);
  CHECK(cudaEventSynchronize(last) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&ms, first, last) == cudaSuccess);
  CHECK(ms >= 0);
  CHECK(cudaStreamSynchronize(s) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&ms, first, untimed) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventElapsedTime(nullptr, first, last) == cudaErrorInvalidValue);
  CHECK(cudaEventDestroy(first) == cudaSuccess);
  CHECK(cudaEventDestroy(first) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventRecord(first, s) == cudaErrorInvalidResourceHandle);
}

TEST_CASE("flags that don't exist are refused") {
  restart();
  cudaStream_t s{};
  cudaEvent_t e{};
  CHECK(cudaStreamCreateWithFlags(&s, 77) == cudaErrorInvalidValue);
  CHECK(cudaStreamCreateWithFlags(nullptr, 0) == cudaErrorInvalidValue);
  CHECK(cudaEventCreateWithFlags(&e, 77) == cudaErrorInvalidValue);
  CHECK(cudaEventCreateWithFlags(nullptr, 0) == cudaErrorInvalidValue);
  CHECK(cudaStreamWaitEvent(new_stream(), new_event(), 77) == cudaErrorInvalidValue);
  CHECK(append_in(cudaStreamPerThread, new_log(), 1) == cudaErrorInvalidResourceHandle);
}
