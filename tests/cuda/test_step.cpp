// Whole steps of the optimizer on the GPU backend, run on the stand-in: against the Eigen backend, and recorded against
// direct ones.
#include <doctest/doctest.h>

#include <limits>

#include "cuda/compared_with_host.hpp"
#include "cuda/direct_backend.hpp"
#include "standin.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Trains the mixed model by recorded and by direct steps; `between(step, model)` may change what it likes before each.
template <class Between>
void check_same_bits(Between&& between) {
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    standin::restart();
    standin::seed(seed);
    placed_model<cublas_backend> recorded(std::move(mixed_model<float>().parameters));
    placed_model<direct_cublas_backend> direct(std::move(mixed_model<float>().parameters));
    for (int step = 0; step < 5; ++step) {
      recorded.make_gradients(step);
      direct.make_gradients(step);
      between(step, recorded);
      between(step, direct);
      recorded.opt.step();
      direct.opt.step();
      CHECK(same_bits(recorded.weights(), direct.weights()));
      CHECK(same_bits(recorded.opt.export_state(), direct.opt.export_state()));
    }
  }
}

}  // namespace

TEST_CASE("three steps of every rule on the GPU backend are those of the Eigen backend, within rounding") {
  standin::restart();
  placed_model<cublas_backend> gpu(every_rule<float>(true));
  placed_model<eigen_backend> cpu(every_rule<float>(true), {}, eigen_backend({.threads = 1}));
  const auto start = cpu.weights();
  for (int step = 0; step < 3; ++step) {
    gpu.make_gradients(step), cpu.make_gradients(step);
    gpu.opt.step(), cpu.opt.step();
  }
  check_weights_of_host(cpu.host.parameters, 3, start, gpu.weights(), cpu.weights());
  check_state_of_host(gpu.opt.export_state(), cpu.opt.export_state());
  const auto moved = cpu.weights();
  for (std::size_t i = 0; i < moved.size(); ++i) CHECK_FALSE(same_bits(moved[i], start[i]));
}

TEST_CASE("bfloat16 is the default of an iteration, and its updates are those of float32 as far as bfloat16 goes") {
  standin::restart();
  placed_model<cublas_backend> narrow(every_rule<float>(false)), wide(every_rule<float>(true));
  const auto start = narrow.weights();
  for (auto* m : {&narrow, &wide}) {
    m->make_gradients(0);
    m->opt.step();
  }
  CHECK(narrow.opt.report().parameters[0].iteration->compute == compute_type::bfloat16);
  CHECK(narrow.opt.report().parameters[0].iteration->path == "cublasLt bfloat16");
  const auto got = narrow.weights(), expected = wide.weights();
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(narrow.host.parameters[i].name);
    double moved = 0, apart = 0;
    for (std::size_t k = 0; k < got[i].size(); ++k) {
      const auto square = [](double x) { return x * x; };
      moved += square(expected[i][k] - start[i][k]);
      apart += square(got[i][k] - expected[i][k]);
    }
    CHECK(std::sqrt(apart) <= 0.08 * std::sqrt(moved));  // see iteration_tolerance
  }
}

TEST_CASE("a recorded step has the bits of a direct one") {
  check_same_bits([](int, auto&) {});
}

TEST_CASE("a recorded step on the GPU obeys rates, decays, momenta and gradient scales that are set later") {
  check_same_bits([](int step, auto& m) {
    m.opt.set_learning_rate(0.01 * (step + 1));
    m.opt.set_weight_decay(group_id(0), 0.1 * step);
    m.opt.set_momentum(group_id(1), 0.9 - 0.1 * step);
    m.opt.set_beta2(group_id(2), 0.5 + 0.1 * step);
    m.opt.set_gradient_scale(1.0 / (step + 1));
  });
}

TEST_CASE("a recorded step on the GPU leaves out absent, frozen and non-finite gradients, and finds those that moved") {
  check_same_bits([](int step, auto& m) {
    if (step == 0) m.opt.unbind_gradient("tall");
    if (step == 0) m.opt.freeze("vector");
    if (step == 1) m.move_gradient(0);
    if (step == 2) m.opt.bind_gradient("tall", m.gradient(1));
    if (step == 2) m.host.parameters[2].gradient[40] = std::numeric_limits<float>::quiet_NaN();
    if (step == 2) m.write_gradients();
    if (step == 3) m.opt.unfreeze("vector");
    if (step == 3) m.move_gradient(1);
    if (step == 4) m.opt.unbind_gradient("wide");
  });
}

TEST_CASE("a change on the GPU is what the weight would have moved by, and zero for what is held back") {
  standin::restart();
  placed_model<cublas_backend> m(std::move(mixed_model<float>().parameters));
  placed_model<direct_cublas_backend> direct(std::move(mixed_model<float>().parameters));
  const auto before = m.weights();
  m.make_gradients(0), direct.make_gradients(0);
  m.opt.freeze("muon"), direct.opt.freeze("muon");
  m.opt.step_changes(), direct.opt.step_changes();
  CHECK(same_bits(m.weights(), before));
  CHECK(same_bits(m.changes(), direct.changes()));
  CHECK(m.changes()[3] == std::vector<float>(28, 0.0f));
  CHECK(m.changes()[0] != std::vector<float>(60, 0.0f));
}

TEST_CASE("what a step on its way still needs is not given back under it") {
  standin::restart();
  {
    placed_model<cublas_backend> m(std::move(mixed_model<float>().parameters));
    m.make_gradients(0);
    m.opt.step();
    CHECK(standin::queued() > 0);
  }
  standin::run_everything();
  CHECK_NOTHROW(cublas_backend().sync());  // a device that has failed would say so
}

TEST_CASE("after the first step nothing is allocated and the host waits for nothing, whatever changes") {
  standin::restart();
  placed_model<cublas_backend> m(std::move(mixed_model<float>().parameters));
  m.make_gradients(0);
  m.opt.step();
  m.opt.step_changes();
  m.weights();
  for (int step = 1; step < 6; ++step) {
    standin::run_everything();  // the device keeps up
    m.opt.set_learning_rate(0.01 * step);
    if (step == 2) m.opt.unbind_gradient("tall");
    if (step == 3) m.opt.bind_gradient("tall", m.gradient(1));
    standin::forget_calls();
    if (step == 4) m.opt.step_changes();
    else m.opt.step();
    CHECK(standin::allocations() == 0);
    CHECK(standin::waits() == 0);
    CHECK(standin::calls("cudaGraphLaunch") == 1);
    CHECK(standin::calls("cudaLaunchKernel") == 0);
    // Numbers and flags always travel, tables only where a view has moved since this kind of step was made last.
    CHECK(standin::calls("cudaMemcpyAsync") == (step == 2 || step == 3 ? 2 : 1));
  }
}

TEST_CASE("a host that is far ahead of the device waits only where all of the ring is on its way") {
  standin::restart();
  placed_model<cublas_backend> m(std::move(mixed_model<float>().parameters));
  placed_model<direct_cublas_backend> direct(std::move(mixed_model<float>().parameters));
  m.make_gradients(0), direct.make_gradients(0);
  m.opt.step(), direct.opt.step();
  m.weights(), direct.weights();
  standin::run_everything();
  standin::forget_calls();
  for (int step = 0; step < 8; ++step) {
    m.opt.set_learning_rate(0.001 * (step + 1));
    m.opt.step();
  }
  CHECK(standin::waits() == 0);
  for (int step = 8; step < 20; ++step) {
    m.opt.set_learning_rate(0.001 * (step + 1));
    m.opt.step();
  }
  CHECK(standin::waits() > 0);
  CHECK(cudaPeekAtLastError() == cudaSuccess);  // a buffer that was not free yet is nobody's error
  for (int step = 0; step < 20; ++step) {
    direct.opt.set_learning_rate(0.001 * (step + 1));
    direct.opt.step();
  }
  CHECK(same_bits(m.weights(), direct.weights()));
}

TEST_CASE("under `raise` a step on the GPU does not wait, and the report names what was held back") {
  standin::restart();
  placed_model<cublas_backend> m(std::move(mixed_model<float>().parameters), {.non_finite = non_finite_policy::raise});
  m.make_gradients(0);
  m.host.parameters[1].gradient[0] = std::numeric_limits<float>::infinity();
  m.write_gradients();
  const auto before = m.weights();
  m.opt.step();
  CHECK(refusal_of([&] { m.opt.report(); }).is(error_code::non_finite, "in the gradient of 'tall'"));
  CHECK(same_bits(m.weights()[1], before[1]));
  CHECK_FALSE(same_bits(m.weights()[0], before[0]));
  // Only reports throw: what a step held back is sound state, to export, to go on from and to bring back.
  CHECK_FALSE(refusal_of([&] {
                const auto state = m.opt.export_state();
                m.opt.step();
                m.opt.import_state(state);
              }).code);
  CHECK(refusal_of([&] { m.opt.step(), m.opt.report(); }).is(error_code::non_finite, "in the gradient of 'tall'"));
}

TEST_CASE("weights and gradients in 16 bits train on the GPU as they do on the Eigen backend") {
  standin::restart();
  const auto train = [](auto backend, auto zero) {
    using T = decltype(zero);
    placed_model<decltype(backend), T> m(every_rule<T>(true), {}, std::move(backend));
    for (int step = 0; step < 2; ++step) {
      m.make_gradients(step);
      m.opt.step();
    }
    return m.weights();
  };
  const auto compare = [&](auto zero) {
    const auto got = train(cublas_backend(), zero), expected = train(eigen_backend({.threads = 1}), zero);
    std::size_t all = 0, other = 0;
    for (std::size_t i = 0; i < got.size(); ++i)
      for (std::size_t k = 0; k < got[i].size(); ++k) {
        ++all;
        if (got[i][k].bits() != expected[i][k].bits()) ++other;
      }
    CHECK(other * 100 < all);  // updates that differ in their last bits of a float rarely round to another number
  };
  compare(bfloat16());
  compare(float16());
}

TEST_CASE("a product that the library would only make by split sums is refused before anything is written") {
  standin::restart();
  placed_model<cublas_backend> m(std::move(mixed_model<float>().parameters));
  m.make_gradients(0);
  const auto before = m.weights();
  standin::set_algorithms({standin::algorithm::split_k_in_place, standin::algorithm::split_k});
  CHECK(refusal_of([&] { m.opt.step(); }).is(error_code::device, "cublasLtMatmulAlgoGetHeuristic of", "in bfloat16"));
  CHECK(same_bits(m.weights(), before));
  standin::set_algorithms(
      {standin::algorithm::split_k_in_place, standin::algorithm::unusable, standin::algorithm::plain});
  m.opt.step();
  CHECK_FALSE(same_bits(m.weights(), before));
  standin::restart();
}

TEST_CASE("a run is a whole bank, but no larger than fills a device") {
  standin::restart();
  const cublas_backend b;
  CHECK(b.run_length({768, 768, 1, compute_type::bfloat16}) == 227);
  CHECK(b.run_length({4096, 14336, 1, compute_type::bfloat16}) == 2);
  CHECK(b.run_length({16384, 65536, 1, compute_type::bfloat16}) == 1);
  CHECK(b.run_length({1, 1, 1, compute_type::bfloat16}) == 4096);
}
