// Steps of several ranks on the GPU backend, by way of the host's memory and on the stand-in: their bits against those
// of one process, and what a recorded step must not do.
#include <doctest/doctest.h>

#include <limits>

#include "cuda/device_stage.hpp"
#include "cuda/direct_backend.hpp"
#include "cuda/one_algorithm.hpp"
#include "cuda/sharded_on_gpu.hpp"
#include "normuon/testing/engine_conformance.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// One that can't give up what is half on its way, as MPI.
struct stubborn : loopback {
  explicit stubborn(loopback engine) : loopback(std::move(engine)) {}
  bool abort() {
    loopback::abort();
    return false;
  }
};

// Of a request that was complete when its engine was aborted, or under way.
template <class Engine>
std::size_t pinned_memory_left_after_abort(bool complete) {
  standin::restart();
  run_loopback(2, {}, [&](loopback below) {
    const cuda_stream stream = make_stream();
    through_host<Engine> engine(Engine(std::move(below)), stream.get());
    const int other = 1 - engine.rank();
    const exchange e{.send = {{other, 0, 100}}, .receive = {{other, 0, 100}}};
    const device_memory send = make_device_memory(100), receive = make_device_memory(100);
    auto request = engine.start(e, send.get(), receive.get());
    if (complete) engine.finish(request);
    if (!engine.abort()) throw std::runtime_error("what is on the device is free to go");
  }).rethrow_first();
  return standin::pinned_memory_in_use();
}

}  // namespace

TEST_CASE("an engine of the host's memory keeps the laws of an engine of a device's, by way of pinned memory") {
  standin::restart();
  testing::check_engine<device_stage>([](auto law) {
    for (const int ranks : {1, 2, 3})
      run_loopback(ranks, {}, [&](loopback engine) {
        const cuda_stream stream = make_stream();
        law(gpu_engine(std::move(engine), stream.get()));
      }).rethrow_first();
  });
}

TEST_CASE("pinned memory into which an engine of the host's may still write is kept, and no other") {
  for (const bool complete : {true, false}) {
    CHECK(pinned_memory_left_after_abort<loopback>(complete) == 0);
    CHECK(pinned_memory_left_after_abort<stubborn>(complete) == 400);
  }
}

TEST_CASE("on the GPU backend several ranks have the bits of one process, in every layout and on either wire") {
  for (const any_options& rule : {any_options(normuon_options::reference()), any_options(muon_options::moonlight())})
    for (const element_type wire : {element_type::float32, element_type::bfloat16}) {
      const optimizer_options options{.wire = wire};
      restart_with_one_algorithm();
      const whole_tensors expected = trained_alone_on_gpu<cublas_backend>(gpu_model(rule), options);
      for (const int ranks : {1, 2, 3}) {
        CAPTURE(ranks);
        restart_with_one_algorithm(static_cast<std::uint64_t>(ranks));
        check_same(trained_on_gpus<cublas_backend>(ranks, gpu_model(rule), options), expected);
      }
    }
}

TEST_CASE("a step that ranks have recorded in parts has the bits of a direct one") {
  restart_with_one_algorithm();
  const auto direct = trained_on_gpus<direct_cublas_backend>(2, small_model(), {});
  restart_with_one_algorithm(1);
  check_same(trained_on_gpus<cublas_backend>(2, small_model(), {}), direct);
}

TEST_CASE("after the first step ranks on GPUs allocate nothing and launch graphs only, and wait for each other") {
  restart_with_one_algorithm();
  on_gpu_ranks<cublas_backend>(2, small_model(), {}, [](auto& t) {
    const cuda_memory greetings = t.opt.backend().allocate(2);
    const auto wait_for_the_other = [&] { t.opt.engine().all_gather_small(greetings.data(), 1); };
    t.step(0);
    t.opt.step_changes();
    t.step(1);
    wait_for_the_other();
    standin::forget_calls();
    t.opt.step();
    t.opt.step_changes();
    if (standin::allocations() != 0) throw std::runtime_error("a step has allocated");
    if (standin::calls("cudaLaunchKernel") != 0) throw std::runtime_error("a step has launched a kernel by itself");
    if (standin::calls("cudaGraphLaunch") == 0) throw std::runtime_error("a step has launched no graph");
    wait_for_the_other();
  }).rethrow_first();
}

TEST_CASE("a gradient that is not finite on one GPU holds its parameter back on all, or stops the step under `raise`") {
  for (const non_finite_policy policy : {non_finite_policy::skip, non_finite_policy::raise}) {
    restart_with_one_algorithm();
    on_gpu_ranks<cublas_backend>(3, small_model(), {.non_finite = policy}, [&](auto& t) {
      const auto bits = [&](std::size_t i) {
        t.fetch_weights();
        return t.parts[i].weight;
      };
      const auto rows = bits(0), replicated = bits(2);
      t.make_gradients(0);
      if (t.opt.engine().rank() == 1) t.parts[0].gradient[3] = std::numeric_limits<float>::quiet_NaN();
      t.send_gradients();
      const auto refused = refusal_of([&] { t.opt.step(); });
      const bool raises = policy == non_finite_policy::raise;
      if (raises != refused.is(error_code::non_finite, "in the gradient of 'rows'"))
        throw std::runtime_error("expected an error under `raise` alone");
      if (!same_bits(bits(0), rows)) throw std::runtime_error("what is held back has moved");
      if (same_bits(bits(2), replicated) != raises)
        throw std::runtime_error("expected the others to move under `skip`");
      if (!raises && t.opt.report().parameters[0].outcome != outcome::non_finite_gradient)
        throw std::runtime_error("the report does not name what was held back");
    }).rethrow_first();
  }
}

TEST_CASE("where one GPU can't record its step no rank makes it, all say whose it is, and the next step is whole") {
  restart_with_one_algorithm();
  whole_tensors expected, got;
  on_gpu_ranks<cublas_backend>(2, small_model(), {}, [&](auto& t) {
    t.step(0);
    t.put_into(expected);
  }).rethrow_first();
  restart_with_one_algorithm();
  int own = 0, told = 0;
  on_gpu_ranks<cublas_backend>(2, small_model(), {}, [&](auto& t) {
    t.opt.prepare();
    t.make_gradients(0);
    if (t.opt.engine().rank() == 0) standin::fail_call("cudaGraphInstantiate", 2, cudaErrorMemoryAllocation);
    const auto refused = refusal_of([&] { t.opt.step(); });
    own += refused.is(error_code::device, "cudaGraphInstantiate") ? 1 : 0;
    told += refused.is(error_code::device, "can't make the step, as it says there") ? 1 : 0;
    t.step(0);
    t.put_into(got);
  }).rethrow_first();
  CHECK(own == 1);
  CHECK(told == 1);
  check_same(got, expected);
}

TEST_CASE("a device that is lost in a step of several ranks poisons it, and the others end by their deadline") {
  restart_with_one_algorithm();
  int device = 0, engine = 0;
  on_gpu_ranks<cublas_backend>(2, small_model(), {}, [&](auto& t) {
    t.step(0);
    t.make_gradients(1);
    if (t.opt.engine().rank() == 0) standin::fail_call("cudaGraphLaunch", 4, cudaErrorLaunchFailure);
    const auto refused = refusal_of([&] { t.opt.step(); });
    device += refused.is(error_code::backend, "cudaGraphLaunch", "begun: ") ? 1 : 0;
    engine += refused.is(error_code::engine, "rank") ? 1 : 0;
    if (!refusal_of([&] { t.opt.step(); }).is(error_code::poisoned)) throw std::runtime_error("expected it poisoned");
  }).rethrow_first();
  CHECK(device == 1);
  CHECK(engine == 1);
}

TEST_CASE("a backend and an engine on two streams are refused for more than one rank") {
  standin::restart();
  run_loopback(2, {}, [](loopback engine) {
    const cuda_stream stream = make_stream();
    using gpu_optimizer = optimizer<cublas_backend, gpu_engine>;
    const auto refused =
        refusal_of([&] { gpu_optimizer(cublas_backend(), {}, gpu_engine(std::move(engine), stream.get())); });
    if (!refused.is(error_code::option, "on one stream")) throw std::runtime_error("expected a refusal");
  }).rethrow_first();
}

TEST_CASE("diagnostics that are asked for after a step are measured on GPUs too") {
  const std::vector<spread_parameter> parameters = {
      {"rows", normuon_options::paper(), 150, 70, 1, [](int) { return layout::rows(); }},
      {"cols", normuon_options::paper(), 70, 150, 1, [](int) { return layout::cols(); }}};
  restart_with_one_algorithm();
  double alone = 0;
  {
    gpu_trainer<cublas_backend, single_process> t(parameters, {});
    t.opt.set_diagnostics(true);
    t.step(0), t.step(1);
    alone = t.opt.report().parameters[0].orthogonality_residual.value();
  }
  restart_with_one_algorithm();
  int measured = 0;
  on_gpu_ranks<cublas_backend>(2, parameters, {}, [&](auto& t) {
    t.step(0);
    t.opt.set_diagnostics(true);
    t.step(1);
    const auto residual = t.opt.report().parameters[0].orthogonality_residual;
    if (residual && *residual == alone) ++measured;
  }).rethrow_first();
  CHECK(alone > 0);
  CHECK(measured == 1);
}

TEST_CASE("one rank alone may bind memory of another type after a step, and its peers don't wait for a new plan") {
  restart_with_one_algorithm();
  on_gpu_ranks<cublas_backend>(2, small_model(), {}, [](auto& t) {
    const int rank = t.opt.engine().rank();
    t.step(0);
    t.opt.step_changes();
    const cuda_memory narrow = t.opt.backend().allocate(t.parts[0].change.size() * sizeof(bfloat16));
    auto* const first = address_of<bfloat16>(narrow.data());
    if (rank == 0) t.opt.bind_change("rows", shard(first, 12, 20, layout::rows(), rank, 2));
    t.opt.step_changes();
    if (rank != 0) return;
    std::vector<bfloat16> change(t.parts[0].change.size());
    read_now(t.opt.backend(), t.opt.engine(), change.data(), narrow.data(), narrow.size());
    if (std::all_of(change.begin(), change.end(), [](bfloat16 x) { return static_cast<float>(x) == 0; }))
      throw std::runtime_error("nothing was written as bfloat16");
  }).rethrow_first();
}

TEST_CASE("an engine by way of the host has failed once the device refuses a copy, and says so of every verb") {
  standin::restart();
  run_loopback(2, {}, [](loopback below) {
    const cuda_stream stream = make_stream();
    gpu_engine engine(std::move(below), stream.get());
    const int other = 1 - engine.rank();
    const exchange e{.send = {{other, 0, 100}}, .receive = {{other, 0, 100}}};
    const device_memory send = make_device_memory(100), receive = make_device_memory(100);
    if (engine.rank() == 0) standin::fail_call("cudaMemcpyAsync", 1, cudaErrorInvalidValue);
    auto request = engine.prepare(e, send.get(), receive.get());
    const auto failed = [&](auto&& verb) { return refusal_of(verb).is(error_code::engine, "rank"); };
    if (engine.rank() == 1) return;
    if (!refusal_of([&] { engine.restart(request); }).is(error_code::engine, "cudaMemcpyAsync: cudaErrorInvalidValue"))
      throw std::runtime_error("expected the call to be named");
    if (!failed([&] { engine.test(request); }) || !failed([&] { engine.finish(request); }) ||
        !failed([&] { engine.wait(); }) || !failed([&] { engine.all_gather_small(send.get(), 1); }))
      throw std::runtime_error("a verb goes on after a failure");
  }).rethrow_first();
}
