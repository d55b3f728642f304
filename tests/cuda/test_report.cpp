// Reports that nobody waits for, run on the stand-in, whose device works only when something forces it.
#include <doctest/doctest.h>

#include <limits>

#include "cuda/placed_model.hpp"
#include "normuon/backends/cublas.hpp"
#include "standin.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

using training = placed_model<cublas_backend>;

bool same(const step_report& a, const step_report& b) {
  return std::equal(a.parameters.begin(), a.parameters.end(), b.parameters.begin(), b.parameters.end(),
                    [](const parameter_report& x, const parameter_report& y) {
                      return x.name == y.name && x.outcome == y.outcome && x.update_norm == y.update_norm &&
                             x.direction_norm == y.direction_norm;
                    });
}

}  // namespace

TEST_CASE("a requested report makes the host wait for nothing, and is there when the device has come to it") {
  standin::restart();
  training m(std::move(mixed_model<float>().parameters)), waiting(std::move(mixed_model<float>().parameters));
  for (training* each : {&m, &waiting}) {
    each->make_gradients(0);
    each->opt.unbind_gradient("tall");
    each->opt.step();
  }
  const step_report expected = waiting.opt.report();
  standin::run_everything();
  standin::forget_calls();
  CHECK_FALSE(m.opt.requested_report());
  m.opt.request_report();
  m.opt.bind_gradient("tall", m.gradient(1));
  m.opt.set_learning_rate(1);
  m.opt.step();  // which the report is not of
  m.opt.step();
  std::optional<step_report> found = m.opt.requested_report();
  CHECK(standin::waits() == 0);
  standin::run_everything();
  if (!found) found = m.opt.requested_report();
  REQUIRE(found);
  CHECK(same(*found, expected));
  CHECK_FALSE(m.opt.requested_report());
  CHECK(standin::waits() == 0);
  standin::forget_calls();
  m.opt.request_report();
  CHECK(standin::allocations() == 0);
}

TEST_CASE("a report is not there before the device has come to it") {
  int late = 0;
  for (const std::uint64_t seed : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u}) {
    standin::restart();
    standin::seed(seed);
    training m(std::move(mixed_model<float>().parameters));
    m.make_gradients(0);
    m.opt.step();
    m.opt.request_report();
    for (int asked = 0; asked < 1000; ++asked)
      if (const auto found = m.opt.requested_report()) {
        CHECK(found->parameters.size() == m.host.parameters.size());
        CHECK(found->parameters[0].update_norm > 0);
        late += asked > 0 ? 1 : 0;
        break;
      }
    CHECK(cudaPeekAtLastError() == cudaSuccess);
  }
  CHECK(late > 0);
}

TEST_CASE("under `raise` a requested report throws what the step has held back") {
  standin::restart();
  training m(std::move(mixed_model<float>().parameters), {.non_finite = non_finite_policy::raise});
  m.make_gradients(0);
  m.host.parameters[1].gradient[0] = std::numeric_limits<float>::infinity();
  m.write_gradients();
  m.opt.step();
  m.opt.request_report();
  standin::run_everything();
  CHECK(refusal_of([&] { m.opt.requested_report(); }).is(error_code::non_finite, "in the gradient of 'tall'"));
}

TEST_CASE("a report that was asked for before a parameter was added is forgotten") {
  standin::restart();
  training m(std::move(mixed_model<float>().parameters));
  m.make_gradients(0);
  m.opt.request_report();  // of no step
  CHECK_FALSE(m.opt.requested_report());
  m.opt.step();
  m.opt.request_report();
  m.opt.remove_parameter("tall");
  standin::run_everything();
  CHECK_FALSE(m.opt.requested_report());
}

TEST_CASE("the Gram form begins at an aspect of 1.5 on the GPU, with the restarts that the table has for 16 bits") {
  const auto decided = [](index_t rows, index_t cols, compute_type compute) {
    return decide<cublas_backend>({.compute = compute}, {}, rows, cols);
  };
  for (const compute_type compute : {compute_type::bfloat16, compute_type::float16}) {
    CHECK_FALSE(decided(1000, 1499, compute).gram);
    CHECK(decided(1000, 1500, compute).gram);
    CHECK(decided(1500, 1000, compute).gram);
    CHECK((decided(1000, 4000, compute).restarts.contains(2) && decided(1000, 4000, compute).restarts.contains(4)));
  }
  CHECK(decided(1000, 1500, compute_type::float32).gram);
  CHECK_FALSE(decide<cublas_backend>({.table = polar_express_102}, {}, 1000, 4000).gram);
}
