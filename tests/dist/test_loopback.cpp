#include <doctest/doctest.h>

#include "normuon/shards/loopback.hpp"
#include "normuon/shards/single.hpp"
#include "normuon/testing/engine_conformance.hpp"

using namespace normuon;

namespace {

using microseconds = std::chrono::microseconds;

// What rank `rank` ended with.
std::string message_of(const loopback_result& result, int rank) {
  const std::exception_ptr& thrown = result.thrown[static_cast<std::size_t>(rank)];
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const std::exception& e) {
    return e.what();
  } catch (const loopback_stopped&) {
    return "stopped";
  }
  return "";
}

// From rank 0 to rank 1, ten legs of four bytes and one of two at last; returns what rank 1 ended up with.
struct received {
  std::vector<std::byte> bytes = std::vector<std::byte>(42);
  std::string message;
};
received sent_with(loopback_fault_kind kind, std::size_t n) {
  received r;
  const loopback_result result = run_loopback(2, {.faults = {{kind, 0, 1, n}}}, [&](loopback engine) {
    exchange e;
    std::vector<std::byte> sent(42);
    for (std::size_t k = 0; k < 42; ++k) sent[k] = static_cast<std::byte>(k);
    std::vector<leg>& legs = engine.rank() == 0 ? e.send : e.receive;
    for (std::size_t k = 0; k < 11; ++k) legs.push_back({1 - engine.rank(), 4 * k, k < 10 ? 4u : 2u});
    auto request = engine.start(e, sent.data(), r.bytes.data());
    engine.finish(request);
  });
  r.message = message_of(result, 1);
  return r;
}

}  // namespace

TEST_CASE("the engine of one process keeps the laws") {
  testing::check_engine([](auto law) { law(single_process()); });
}

TEST_CASE("a loopback of any number of ranks keeps the laws, whoever moves first and however long legs take") {
  testing::check_engine([](auto law) {
    for (const int size : {1, 2, 3, 8}) run_loopback(size, {}, law).rethrow_first();
    const loopback_times slow{.latency = microseconds(10), .jitter = microseconds(60)};
    run_loopback(4, {.seed = 7, .times = slow, .deadline = std::chrono::seconds(60)}, law).rethrow_first();
  });
}

TEST_CASE("what a wrapper hides of an engine is made up for") {
  // A loopback without preparation, deadline and abort.
  struct plain {
    using request = loopback::request;
    int rank() const { return engine.rank(); }
    int size() const { return engine.size(); }
    void all_gather_small(void* all, std::size_t bytes) { engine.all_gather_small(all, bytes); }
    request start(const exchange& e, const void* send, void* receive) { return engine.start(e, send, receive); }
    bool test(request& r) { return engine.test(r); }
    void finish(request& r) { engine.finish(r); }
    loopback engine;
  };
  static_assert(!has_prepare<plain> && !has_deadline<plain> && !has_abort<plain>);
  testing::check_engine(
      [](auto law) { run_loopback(3, {}, [&](loopback e) { law(plain{std::move(e)}); }).rethrow_first(); });
}

TEST_CASE("a seed decides who moves when, and the same seed decides the same") {
  const auto order_of = [](std::uint64_t seed) {
    std::vector<int> order;
    run_loopback(4, {.seed = seed}, [&](loopback engine) {
      int all[4];
      for (int k = 0; k < 10; ++k) {
        order.push_back(engine.rank());
        engine.all_gather_small(all, sizeof(int));
      }
    });
    return order;
  };
  CHECK(order_of(1) == order_of(1));
  CHECK(order_of(1) != order_of(2));
}

TEST_CASE("a leg that is lost is a deadline, unless another takes its place in another size") {
  CHECK(sent_with(loopback_fault_kind::drop, 10).message == "rank 1: waited 1000000 us for rank 0");
  CHECK(sent_with(loopback_fault_kind::drop, 3).message == "rank 1: expected a leg of 4 bytes from rank 0, got 2");
  CHECK(sent_with(loopback_fault_kind::delay, 10).message == "rank 1: waited 1000000 us for rank 0");
}

TEST_CASE("a leg of another size is named") {
  CHECK(sent_with(loopback_fault_kind::truncate, 5).message == "rank 1: expected a leg of 4 bytes from rank 0, got 3");
  CHECK(sent_with(loopback_fault_kind::duplicate, 9).message == "rank 1: expected a leg of 2 bytes from rank 0, got 4");
  CHECK(sent_with(loopback_fault_kind::reorder, 9).message == "rank 1: expected a leg of 4 bytes from rank 0, got 2");
}

TEST_CASE("legs of one size that change places, and flipped bits, are for those to see who look at the bytes") {
  const received swapped = sent_with(loopback_fault_kind::reorder, 2);
  CHECK(swapped.message == "");
  CHECK(swapped.bytes[8] == std::byte{12});
  CHECK(swapped.bytes[12] == std::byte{8});
  CHECK(swapped.bytes[16] == std::byte{16});
  const received corrupt = sent_with(loopback_fault_kind::corrupt, 1);
  CHECK(corrupt.message == "");
  int different = 0;
  for (std::size_t k = 0; k < 42; ++k) different += corrupt.bytes[k] != static_cast<std::byte>(k);
  CHECK(different == 1);
  CHECK(corrupt.bytes[6] == std::byte{6 ^ 0x10});
}

TEST_CASE("a rank that stops, leaves or fails is missed by those who wait for it, and by nobody else") {
  const loopback_result result = run_loopback(4, {.deadline = std::chrono::milliseconds(50)}, [](loopback engine) {
    exchange e;
    std::byte sent{1}, got{};
    const int rank = engine.rank();
    if (rank < 2) e.send = {{1 - rank, 0, 1}}, e.receive = {{1 - rank, 0, 1}};
    if (rank == 1) engine.stop_after(2);
    for (int k = 0; k < 3; ++k) {
      auto request = engine.start(e, &sent, &got);
      engine.finish(request);
    }
    if (rank == 2) throw std::runtime_error("out of paper");
  });
  CHECK(message_of(result, 0) == "rank 0: waited 50000 us for rank 1");
  CHECK(message_of(result, 1) == "stopped");
  CHECK(message_of(result, 2) == "out of paper");
  CHECK(message_of(result, 3) == "");
}

TEST_CASE("an engine that is aborted says first why it had failed before") {
  run_loopback(2, {.deadline = std::chrono::milliseconds(100)}, [](loopback engine) {
    if (engine.rank() == 1) return;
    std::byte all[2];
    CHECK_THROWS_AS(engine.all_gather_small(all, 1), error);
    CHECK(engine.abort());
    CHECK_THROWS_WITH_AS(engine.all_gather_small(all, 1),
                         "rank 0: the engine has failed: waited 100000 us for the gather's piece of rank 1", error);
  }).rethrow_first();
}

TEST_CASE("who writes into a leg that is under way is named") {
  const loopback_result result = run_loopback(2, {}, [](loopback engine) {
    exchange e;
    std::vector<std::byte> bytes(100);
    (engine.rank() == 0 ? e.send : e.receive) = {{1 - engine.rank(), 0, 100}};
    if (engine.rank() == 1) engine.spend(microseconds(100));
    auto request = engine.start(e, bytes.data(), bytes.data());
    if (engine.rank() == 0) bytes[99] = std::byte{1};
    engine.finish(request);
  });
  CHECK(message_of(result, 1) == "rank 1: rank 0 wrote into a leg of 100 bytes while it was under way");
}

TEST_CASE("pieces of a gather that differ in size are named") {
  const loopback_result result = run_loopback(2, {}, [](loopback engine) {
    std::vector<std::byte> all(8);
    engine.all_gather_small(all.data(), engine.rank() == 0 ? 3 : 4);
  });
  CHECK(message_of(result, 0) == "rank 0: expected a piece of 3 bytes from rank 1, got 4");
  CHECK(message_of(result, 1) == "rank 1: expected a piece of 4 bytes from rank 0, got 3");
}

TEST_CASE("what ranks send is counted, and takes simulated time") {
  const loopback_times times{.latency = microseconds(50), .bytes_per_microsecond = 10};
  const loopback_result result = run_loopback(2, {.times = times}, [](loopback engine) {
    exchange e;
    std::vector<std::byte> bytes(2000);
    if (engine.rank() == 0) e.send = {{1, 0, 1000}, {1, 100, 700}};
    else e.receive = {{0, 0, 1000}, {0, 1000, 700}};
    auto request = engine.start(e, bytes.data(), bytes.data());
    engine.finish(request);
    CHECK(engine.now() >= microseconds(150));
    CHECK(engine.now() < microseconds(170));
    engine.all_gather_small(bytes.data(), 6);
  });
  result.rethrow_first();
  CHECK(result.counts[0].legs == 2);
  CHECK(result.counts[0].bytes == 1700);
  CHECK(result.counts[0].gathers == 1);
  CHECK(result.counts[0].gathered_bytes == 6);
  CHECK(result.counts[1].legs == 0);
}

TEST_CASE("exchanges that no engine can do are refused") {
  const auto refusal_of = [](const leg& l) {
    return message_of(run_loopback(3, {},
                                   [&](loopback engine) {
                                     exchange e;
                                     (l.bytes == 7 ? e.receive : e.send).push_back(l);
                                     if (engine.rank() == 1) (void)engine.start(e, nullptr, nullptr);
                                   }),
                      1);
  };
  CHECK(refusal_of({3, 0, 8}) == "expected a peer of 0 to 2 other than rank 1 itself, got 3");
  CHECK(refusal_of({-1, 0, 7}) == "expected a peer of 0 to 2 other than rank 1 itself, got -1");
  CHECK(refusal_of({1, 0, 7}) == "expected a peer of 0 to 2 other than rank 1 itself, got 1");
  CHECK(refusal_of({2, 0, 0}) == "expected legs of bytes, got an empty one of peer 2");
}
