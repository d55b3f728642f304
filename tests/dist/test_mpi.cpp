// Runs under mpirun, on any number of ranks: every rank does every test case.
#include <doctest/doctest.h>

#include "normuon/shards/mpi.hpp"
#include "normuon/testing/engine_conformance.hpp"

using namespace normuon;

namespace {

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
  testing::check_engine([](auto law) { law(mpi_engine(MPI_COMM_WORLD)); });
}

TEST_CASE("the engine over MPI keeps the laws where it cuts legs") {
  testing::check_engine([](auto law) { law(mpi_engine(MPI_COMM_WORLD, {.piece_bytes = 1000})); });
}
