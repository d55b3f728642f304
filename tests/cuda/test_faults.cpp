// What is left when a call of the vendor's libraries fails: each call of a training is made to fail once, on the
// stand-in.
#include <doctest/doctest.h>

#include <map>
#include <memory>

#include "cuda/placed_model.hpp"
#include "normuon/backends/cublas.hpp"
#include "standin.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

using training = placed_model<cublas_backend>;
using named_calls = std::map<std::string, long>;

std::vector<owned_parameter<float>> few() {
  return {{"wide", normuon_options::paper(), 5, 12},
          {"muon", muon_options::jordan(), 7, 4, 2},
          {"vector", adamw_options{}, 1, 11}};
}

std::unique_ptr<training> started() {
  auto t = std::make_unique<training>(few());
  t->make_gradients(0);
  return t;
}

// How often each function is called by act().
template <class Act>
named_calls calls_of(Act&& act) {
  standin::forget_calls();
  act();
  named_calls counts;
  for (const std::string& name : standin::trace()) ++counts[name];
  return counts;
}

// What a function can really fail with.
int code_for(const std::string& name) {
  if (name.starts_with("cublas")) return CUBLAS_STATUS_INTERNAL_ERROR;
  return name.starts_with("cudaMalloc") ? cudaErrorMemoryAllocation : cudaErrorNotSupported;
}

// Functions whose failure is nobody's loss: they give back, or only tell.
bool is_harmless(const std::string& name) {
  return name.find("Destroy") != name.npos || name.starts_with("cudaFree") || name.starts_with("cudaGetError") ||
         name == "cudaGetLastError" || name == "cudaPeekAtLastError" ||
         name == "cudaStreamSynchronize";  // in a first step only before memory is given back
}

// Calls f(name, n) for the nth call of a function, of all.
template <class F>
void for_each_call(const named_calls& counts, F&& f) {
  for (const auto& called : counts)
    for (long n = 1; n <= called.second; ++n) {
      CAPTURE(called.first);
      CAPTURE(n);
      f(called.first, n);
    }
}

}  // namespace

TEST_CASE("a call that fails while a training is set up is a typed error, and everything is given back") {
  standin::restart();
  std::unique_ptr<training> t;
  const named_calls counts = calls_of([&] { t = started(); });
  t.reset();
  CHECK(counts.contains("cublasLtCreate"));
  CHECK(counts.contains("cudaMallocHost"));
  for_each_call(counts, [](const std::string& name, long n) {
    standin::restart();
    standin::fail_call(name, n, code_for(name));
    const refusal r = refusal_of([] { started(); });
    if (!is_harmless(name)) CHECK(r.is(error_code::device, name.starts_with("cublas") ? "CUBLAS_STATUS" : "cudaError"));
    if (name.find("Destroy") != name.npos || name.starts_with("cudaFree")) return;  // the call that was to give back
    CHECK(standin::memory_in_use() == 0);
    CHECK(standin::pinned_memory_in_use() == 0);
    CHECK(standin::handles_in_use() == 0);
  });
}

TEST_CASE("a call that fails in a first step leaves everything as it was, or a poisoned optimizer") {
  standin::restart();
  auto undisturbed = started();
  const named_calls counts = calls_of([&] { undisturbed->opt.step(); });
  const auto expected = undisturbed->weights();
  CHECK(counts.contains("cublasLtMatmul"));
  CHECK(counts.contains("cudaGraphInstantiate"));
  int unchanged = 0, poisoned = 0;
  for_each_call(counts, [&](const std::string& name, long n) {
    standin::restart();
    auto t = started();
    const auto before = t->weights();
    const auto state = t->opt.export_state();
    standin::fail_call(name, n, code_for(name));
    const refusal r = refusal_of([&] { t->opt.step(); });
    if (!r.code) {
      // Where memory can't be given back nothing else is lost.
      const bool to_give_back = name == "cudaGetDevice" || name == "cudaSetDevice";
      CHECK((is_harmless(name) || to_give_back || name == "cudaEventQuery"));
    } else if (r.code == error_code::device) {
      ++unchanged;
      CHECK(same_bits(t->weights(), before));
      CHECK(same_bits(t->opt.export_state(), state));
      t->opt.step();
    } else {
      ++poisoned;
      CHECK(r.is(error_code::backend, name, name == "cudaGraphLaunch" ? "begun: 'wide', 'muon', 'vector'" : "begun:"));
      CHECK(refusal_of([&] { t->opt.step(); }).is(error_code::poisoned, "import state first"));
      t->write_weights(before);
      t->opt.import_state(state);
      t->opt.step();
    }
    CHECK(same_bits(t->weights(), expected));
  });
  CHECK(unchanged > 20);
  CHECK(poisoned > 0);
}

TEST_CASE("a call that fails in a later step poisons the optimizer, which works again from imported state") {
  standin::restart();
  auto undisturbed = started();
  undisturbed->opt.step();
  const auto before = undisturbed->weights();
  const auto state = undisturbed->opt.export_state();
  const named_calls counts = calls_of([&] { undisturbed->opt.step(); });
  const auto expected = undisturbed->weights();
  CHECK(counts.contains("cudaGraphLaunch"));
  for_each_call(counts, [&](const std::string& name, long n) {
    standin::restart();
    auto t = started();
    t->opt.step();
    t->weights();
    standin::fail_call(name, n, code_for(name));
    const refusal r = refusal_of([&] { t->opt.step(); });
    if (r.code) {
      CHECK(r.is(error_code::backend, name, "on device 0; done: nothing"));
      CHECK(refusal_of([&] { t->opt.export_state(); }).is(error_code::poisoned));
      t->write_weights(before);
      t->opt.import_state(state);
      t->opt.step();
    }
    CHECK(same_bits(t->weights(), expected));
  });
}

TEST_CASE("what there is no room for is refused, and the device is usable afterwards") {
  standin::restart();
  auto t = started();
  const auto before = t->weights();
  standin::set_memory_limit(standin::memory_in_use() + 1024);
  const refusal r = refusal_of([&] { t->opt.step(); });
  CHECK(r.is(error_code::device, "cudaMalloc of", "cudaErrorMemoryAllocation", "on device 0"));
  CHECK(same_bits(t->weights(), before));
  standin::set_memory_limit(std::size_t{1} << 30);
  t->opt.step();
  CHECK_FALSE(same_bits(t->weights(), before));
}

TEST_CASE("a driver that can't load kernels while a stream captures is refused, and says which are taken") {
  standin::restart();
  standin::set_driver_version(12020);
  CHECK(refusal_of([] {
          cublas_backend();
        }).is(error_code::device, "expected a driver of CUDA 12.3 or newer, got one of 12.2"));
  standin::set_driver_version(12030);
  CHECK_NOTHROW(cublas_backend());
}

TEST_CASE("a kernel that can't be launched is named with its operation and sizes") {
  standin::restart();
  cublas_backend b;
  cublas_operand P;
  b.resize(P, {5, 5, 3, compute_type::bfloat16});
  standin::fail_call("cudaLaunchKernel", 1, cudaErrorNotSupported);
  CHECK(refusal_of([&] { b.add_identity(P, 1); })
            .is(error_code::device,
                "cudaLaunchKernel for add_identity of 3 matrices 5 x 5 in bfloat16, 3 blocks of 256 threads: "
                "cudaErrorNotSupported"));
}

TEST_CASE("errors that end a device are known by their numbers, also where a toolkit has no names for them") {
  // Those after which "the process must be terminated and relaunched" (driver_types.h of CUDA 13.0), and ECC errors.
  for (const int code : {214, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911})
    CHECK(is_sticky(static_cast<cudaError_t>(code)));
  for (const auto code : {cudaSuccess, cudaErrorMemoryAllocation, cudaErrorInvalidValue, cudaErrorNotReady,
                          cudaErrorNotSupported, cudaErrorStreamCaptureInvalidated})
    CHECK_FALSE(is_sticky(code));
}

TEST_CASE("a device that fails in the middle of a step is lost: every later call says so, and by what") {
  standin::restart();
  auto t = started();
  t->opt.step();
  t->weights();
  t->opt.step();
  standin::fail_work(3, cudaErrorIllegalAddress);
  CHECK(refusal_of([&] { t->weights(); }).is(error_code::device, "cudaErrorIllegalAddress"));
  for (int again = 0; again < 2; ++again)
    CHECK(refusal_of([&] {
            t->opt.export_state();
          }).is(error_code::device, "device 0 is lost", "cudaErrorIllegalAddress"));
  CHECK(refusal_of([&] { t->opt.step(); }).is(error_code::backend, "device 0 is lost"));
  CHECK(refusal_of([&] { t->opt.step(); }).is(error_code::poisoned));
  t.reset();
  standin::restart();
}

TEST_CASE("a backend works on its own device, in the caller's stream, and leaves the caller's device current") {
  standin::restart();
  standin::set_device_count(3);
  CHECK(refusal_of([] {
          cublas_backend({.device = 3, .stream = {}});
        }).is(error_code::device, "expected a device of 0 to 2, got 3"));
  CHECK(cudaSetDevice(1) == cudaSuccess);
  cuda_stream stream = make_stream();
  CHECK(cudaSetDevice(2) == cudaSuccess);
  CHECK(refusal_of([&] {
          cublas_backend({.device = 0, .stream = stream.get()});
        }).is(error_code::device, "expected a stream of this device"));
  const std::size_t before = standin::memory_in_use(2);
  int current = -1;
  {
    training t(few(), {}, cublas_backend({.device = 1, .stream = stream.get()}));
    t.make_gradients(0);
    t.opt.step();
    const auto weights = t.weights();
    CHECK(standin::memory_in_use(2) == before);
    CHECK(standin::memory_in_use(1) > 0);
    CHECK(cudaGetDevice(&current) == cudaSuccess);
    CHECK(current == 2);
  }
  CHECK(cudaGetDevice(&current) == cudaSuccess);
  CHECK(current == 2);
  CHECK(standin::memory_in_use(1) == 0);
  standin::set_device_count(0);
  CHECK(refusal_of([] { cublas_backend(); }).is(error_code::device, "cudaErrorNoDevice"));
  stream = {};
  standin::restart();
}
