// Linked with the vendor's libraries. On a machine with a GPU one rank runs, as more would need more GPUs.
#include <doctest/doctest.h>

#include "cuda/device_stage.hpp"
#include "normuon/shards/nccl.hpp"
#include "normuon/testing/engine_conformance.hpp"

using namespace normuon;

namespace {

bool has_device() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

}  // namespace

TEST_CASE("the engine over NCCL says so where there is no device") {
  if (has_device()) return;
  cudaGetLastError();
  CHECK_THROWS_AS(nccl_engine(ncclUniqueId{}, 1, 0, nullptr), error);
}

TEST_CASE("options out of range are refused before NCCL is called") {
  CHECK_THROWS_WITH_AS(nccl_engine(ncclUniqueId{}, 2, 2, nullptr),
                       "expected a rank of at least 0 and below the number of ranks, got 2 of 2", error);
  CHECK_THROWS_WITH_AS(nccl_engine(ncclUniqueId{}, 1, 0, nullptr, {.deadline = std::chrono::milliseconds(0)}),
                       "deadline: expected at least 1 ms, got 0", error);
}

TEST_CASE("the engine over NCCL keeps the laws" * doctest::skip(!has_device())) {
  testing::check_engine<test::device_stage>([](auto law) {
    const cuda_stream stream = make_stream();
    ncclUniqueId id;
    REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
    law(nccl_engine(id, 1, 0, stream.get()));
  });
}
