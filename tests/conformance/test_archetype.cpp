#include "normuon/backends/eigen.hpp"
#include "normuon/testing/backend_conformance.hpp"
#include "support/archetype_backend.hpp"
#include "support/model.hpp"

using namespace normuon;
using namespace normuon::test;

TEST_CASE("what the concept requires is enough: its least model keeps the laws") {
  normuon::testing::check_backend([] { return archetype_backend(); });
}

TEST_CASE("the least model, in runs of three and with an opaque operand, trains as the Eigen backend does") {
  for (const named_rule& rule : all_rules()) {
    if (rule.name == std::string("bfloat16")) continue;  // it computes in double only
    CAPTURE(rule.name);
    const auto train = [&]<class B>(B backend) {
      model<double> m({{"a", rule.options, 17, 29}, {"b", rule.options, 17, 29, 4}, {"c", rule.options, 29, 17}});
      optimizer<B> opt(std::move(backend));
      const group_id group = add_group(opt, rule.options);
      for (auto& p : m.parameters) opt.add_parameter(group, p.name, p.view(p.weight.data()), m.gradient_of(p));
      for (int step = 0; step < 3; ++step) {
        m.make_gradients(step);
        opt.step();
      }
      return m.weights();
    };
    const auto expected = train(eigen_backend64({.threads = 1})), got = train(archetype_backend());
    // Rounding in the iteration grows by the table's slope at zero, below 1000, and weights are of size one.
    for (std::size_t i = 0; i < got.size(); ++i)
      for (std::size_t k = 0; k < got[i].size(); ++k)
        CHECK(std::abs(got[i][k] - expected[i][k]) < 1000 * 100 * 0x1p-53);
  }
}
