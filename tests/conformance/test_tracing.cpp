// What a step asks of a backend, and what it never asks.
#include <doctest/doctest.h>

#include "support/model.hpp"
#include "support/tracing_backend.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// The products of one step of a 17 x 29 matrix, or of a 29 x 17 one.
std::vector<traced_product> products_of(const normuon_options& o, bool tall) {
  model<float> one({{"w", o, tall ? 29 : 17, tall ? 17 : 29}});
  optimizer<tracing_backend> opt;
  one.add_to(opt);
  one.make_gradients(0);
  opt.step();
  return opt.backend().products;
}

}  // namespace

TEST_CASE(
    "the plain form makes three products for each row of its table, two of them symmetric, whatever the orientation") {
  for (const bool tall : {false, true})
    for (const coefficient_table& table : {jordan, simple_12}) {
      normuon_options o;
      o.orthogonalizer = {.table = table, .form = iteration_form::plain};
      std::vector<traced_product> expected;
      for (int k = 0; k < table.steps; ++k)
        for (const traced_product& p :
             {traced_product{product_kind::gram, 17, 17, 29}, traced_product{product_kind::polynomial, 17, 17, 17},
              traced_product{product_kind::general, 17, 29, 17}})
          expected.push_back(p);
      CHECK(products_of(o, tall) == expected);
    }
}

TEST_CASE("the Gram form makes two products as long as the matrix from one restart to the next") {
  for (const restart_steps& restarts : {restart_steps{}, restart_steps{3}, restart_steps{2, 4}}) {
    normuon_options o;
    o.orthogonalizer = {.form = iteration_form::gram, .restarts = restarts};
    // Of the five steps, those that don't begin a section take a product for Q; those that don't end one, two for A.
    const int sections = restarts.empty() ? 1 : restarts.contains(3) ? 2 : 3;
    int grams = 0, polynomials = 0, symmetric = 0, general = 0;
    for (const traced_product& p : products_of(o, false)) {
      const bool is_long = p.cols == 29 || p.depth == 29;
      CHECK(is_long == (p.kind == product_kind::gram || p.kind == product_kind::general));
      grams += p.kind == product_kind::gram;
      polynomials += p.kind == product_kind::polynomial;
      symmetric += p.kind == product_kind::symmetric;
      general += p.kind == product_kind::general;
    }
    CHECK(grams == sections);
    CHECK(polynomials == 5);
    CHECK(symmetric == 3 * (5 - sections));
    CHECK(general == sections);
  }
}

TEST_CASE("no step after the first makes memory, and the host looks at the device only where a policy has to know") {
  for (const auto policy : {non_finite_policy::skip, non_finite_policy::propagate, non_finite_policy::raise}) {
    model<float> m = mixed_model<float>();
    optimizer<tracing_backend> opt({}, {.non_finite = policy});
    m.add_to(opt);
    m.make_gradients(0);
    opt.step();
    CHECK(opt.backend().allocations > 0);
    opt.backend().allocations = opt.backend().looks = 0;
    opt.set_learning_rate(0.01);
    opt.step();
    opt.step_changes();
    CHECK(opt.backend().allocations == 0);
    CHECK(opt.backend().looks ==
          (policy == non_finite_policy::raise ? 4 : 0));  // a read of the flags and a wait, twice
    opt.report();
    CHECK(opt.backend().looks > 0);
  }
}

TEST_CASE("what the host knows to be held back costs no products, in place or as a change") {
  model<float> m({{"frozen", normuon_options::paper(), 5, 12},
                  {"absent", muon_options::jordan(), 12, 5, 2},
                  {"vector", adamw_options{}, 1, 11}});
  for (auto& p : m.parameters) p.change.assign(p.change.size(), 99);
  optimizer<tracing_backend> opt{};
  m.add_to(opt);
  m.make_gradients(0);
  opt.freeze("frozen");
  opt.unbind_gradient("absent");
  opt.unbind_gradient("vector");
  opt.step();
  opt.step_changes();
  CHECK(opt.backend().products.empty());
  for (const auto& p : m.parameters) CHECK(p.change == std::vector<float>(p.size(), 0));
  opt.unfreeze("frozen");
  opt.step_changes();
  CHECK(!opt.backend().products.empty());
  CHECK(m.parameters[0].change != std::vector<float>(60, 0));
}
