// Runs under mpirun, on any number of ranks: every rank does every test case.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "normuon/shards/mpi.hpp"
#include "normuon/testing/engine_conformance.hpp"

namespace {

std::atomic<long> allocations = 0;  // by operator new: what MPI takes for itself is its own affair

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

using namespace normuon;

namespace {

// From rank 0 to rank 1 a leg that is sent and received as these many bytes; the others have none.
struct one_leg {
  one_leg(const mpi_engine& engine, std::size_t sent, std::size_t received) : bytes(sent + received) {
    if (engine.rank() == 0) plan.send = {{1, 0, sent}};
    if (engine.rank() == 1) plan.receive = {{0, 0, received}};
  }
  exchange plan;
  std::vector<std::byte> bytes;
};

void ignore(MPI_Comm*, int*, ...) {}

void wait_for_all() { MPI_Barrier(MPI_COMM_WORLD); }

std::string message_of(auto&& verb) {
  try {
    verb();
  } catch (const error& e) {
    CHECK(e.code() == error_code::engine);
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the engine over MPI keeps the laws") {
  testing::check_engine([](auto law) {
    law(mpi_engine(MPI_COMM_WORLD));
    wait_for_all();  // so that nobody waits for the next engine of one who still waits for this one's deadline
  });
}

TEST_CASE("the engine over MPI keeps the laws where it cuts legs") {
  testing::check_engine([](auto law) {
    law(mpi_engine(MPI_COMM_WORLD, {.piece_bytes = 16384}));
    wait_for_all();
  });
}

TEST_CASE("steps over MPI allocate nothing of ours") {
  testing::check_that_engine_allocates_nothing([](auto law) { law(mpi_engine(MPI_COMM_WORLD)); },
                                               [] { return allocations.load(); });
}

TEST_CASE("the engine's messages are not the caller's") {
  mpi_engine engine(MPI_COMM_WORLD);
  if (engine.size() == 1) return;
  one_leg l(engine, 4, 4);
  int world = 42;
  MPI_Request own = MPI_REQUEST_NULL;
  if (engine.rank() == 0) {
    l.bytes[0] = std::byte{7};
    MPI_Isend(&world, 4, MPI_BYTE, 1, 0, MPI_COMM_WORLD, &own);
  }
  auto request = engine.start(l.plan, l.bytes.data(), l.bytes.data());
  engine.finish(request);
  if (engine.rank() == 1) {
    CHECK(l.bytes[0] == std::byte{7});
    MPI_Irecv(&world, 4, MPI_BYTE, 0, 0, MPI_COMM_WORLD, &own);
  }
  MPI_Wait(&own, MPI_STATUS_IGNORE);
  CHECK(world == 42);
}

TEST_CASE("a leg that is shorter or longer than planned is an error that names the peer") {
  for (const std::size_t sent : {10u, 5000u}) {
    mpi_engine engine(MPI_COMM_WORLD, {.deadline = std::chrono::seconds(20)});
    if (engine.size() == 1) return;
    one_leg l(engine, sent, 1000);
    const std::string message = message_of([&] {
      auto request = engine.start(l.plan, l.bytes.data(), l.bytes.data());
      engine.finish(request);
    });
    CAPTURE(message);
    wait_for_all();
    if (engine.rank() != 1) {
      CHECK(message == "");
    } else if (sent < 1000) {
      CHECK(message == "rank 1: expected a leg of 1000 bytes from rank 0, got 10");
    } else {
      CHECK(message.find("rank 1: a leg from rank 0 of 1000 bytes: ") == 0);
      CHECK(message.find("runcat") != std::string::npos);  // MPI's own words
    }
  }
}

TEST_CASE("a deadline names who is waited for, and what is said later names it again") {
  mpi_engine engine(MPI_COMM_WORLD);
  engine.set_deadline(std::chrono::milliseconds(200));
  if (engine.size() == 1) return;
  one_leg l(engine, 10, 10);
  if (engine.rank() == 1) {
    const auto wait = [&] {
      auto request = engine.start(l.plan, l.bytes.data(), l.bytes.data());
      engine.finish(request);
    };
    CHECK(message_of(wait) == "rank 1: waited 200 ms for rank 0");
    CHECK(message_of(wait) == "rank 1: the engine has failed: waited 200 ms for rank 0");
    CHECK(message_of([&] { engine.all_gather_small(l.bytes.data(), 1); }) ==
          "rank 1: the engine has failed: waited 200 ms for rank 0");
  }
  wait_for_all();
}

TEST_CASE("an engine that is aborted refuses what follows, and says that it was aborted") {
  mpi_engine engine(MPI_COMM_WORLD);
  const std::string rank = "rank " + std::to_string(engine.rank());
  std::vector<std::byte> bytes(static_cast<std::size_t>(engine.size()));
  CHECK(engine.abort());  // nothing was under way
  CHECK(message_of([&] { engine.all_gather_small(bytes.data(), 1); }) ==
        rank + ": the engine has failed: it was aborted");
  wait_for_all();
}

TEST_CASE("an engine that is aborted says first why it had failed before") {
  mpi_engine engine(MPI_COMM_WORLD);
  engine.set_deadline(std::chrono::milliseconds(200));
  if (engine.size() == 1) return;
  one_leg l(engine, 10, 10);
  if (engine.rank() == 1) {
    CHECK(message_of([&] { engine.all_gather_small(l.bytes.data(), 1); }) ==
          "rank 1: waited 200 ms in MPI_Iallgather for other ranks");
    engine.abort();
    CHECK(message_of([&] { engine.all_gather_small(l.bytes.data(), 1); }) ==
          "rank 1: the engine has failed: waited 200 ms in MPI_Iallgather for other ranks");
  }
  wait_for_all();
}

TEST_CASE("while an engine is made the caller's communicator returns errors, and has its own handler afterwards") {
  MPI_Comm own = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &own);
  MPI_Errhandler mine = MPI_ERRHANDLER_NULL, after = MPI_ERRHANDLER_NULL;
  MPI_Comm_create_errhandler(ignore, &mine);
  MPI_Comm_set_errhandler(own, mine);
  { const mpi_engine engine(own); }
  MPI_Comm_get_errhandler(own, &after);
  CHECK(after == mine);
  CHECK(message_of([] { mpi_engine(MPI_COMM_NULL); }) == "expected a communicator, got MPI_COMM_NULL");
  MPI_Errhandler_free(&after);
  MPI_Errhandler_free(&mine);
  MPI_Comm_free(&own);
}

TEST_CASE("a rank that makes an engine alone says how long it waited for the others") {
  MPI_Comm own = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &own);
  int rank = 0, size = 1;
  MPI_Comm_rank(own, &rank);
  MPI_Comm_size(own, &size);
  if (size == 1) return;
  if (rank == 1)
    CHECK(message_of([&] { mpi_engine(own, {.deadline = std::chrono::milliseconds(200)}); }) ==
          "rank 1: waited 200 ms in MPI_Comm_idup for other ranks");
  wait_for_all();
}

TEST_CASE("a request that is under way is not started again") {
  mpi_engine engine(MPI_COMM_WORLD);
  if (engine.size() == 1) return;
  one_leg l(engine, 10, 10);
  auto request = engine.prepare(l.plan, l.bytes.data(), l.bytes.data());
  engine.restart(request);
  if (engine.rank() == 1)
    CHECK(message_of([&] { engine.restart(request); }) ==
          "expected a request that is complete, got one that is under way");
  engine.finish(request);
}

TEST_CASE("ranks that cut legs in other pieces are told so") {
  int rank = 0, size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size == 1) return;
  const std::string message =
      message_of([&] { mpi_engine(MPI_COMM_WORLD, {.piece_bytes = rank == 1 ? 2000u : 1000u}); });
  if (rank == 0) CHECK(message == "rank 0: expected pieces of 1000 bytes on rank 1, got 2000");
  if (rank == 1) CHECK(message == "rank 1: expected pieces of 2000 bytes on rank 0, got 1000");
}

TEST_CASE("options out of range are refused") {
  CHECK_THROWS_WITH_AS(mpi_engine(MPI_COMM_WORLD, {.deadline = std::chrono::milliseconds(0)}),
                       "deadline: expected at least 1 ms, got 0", error);
  CHECK_THROWS_WITH_AS(mpi_engine(MPI_COMM_WORLD, {.piece_bytes = 0}), "piece_bytes: expected 1 to 2147483647, got 0",
                       error);
}
