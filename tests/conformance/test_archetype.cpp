#include "02_custom_backend.hpp"
#include "normuon/backends/eigen.hpp"
#include "normuon/testing/backend_conformance.hpp"
#include "support/archetype_backend.hpp"
#include "support/model.hpp"
#include "support/recording_backend.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// The weights after three steps by a rule: one wide matrix, a batch of four and a tall one.
template <tensor_backend B>
std::vector<std::vector<typename B::real>> trained(const any_options& options, B backend) {
  model<typename B::real> m({{"a", options, 17, 29}, {"b", options, 17, 29, 4}, {"c", options, 29, 17}});
  optimizer<B> opt(std::move(backend));
  const group_id group = add_group(opt, options);  // one, so that runs cross parameters
  for (auto& p : m.parameters) opt.add_parameter(group, p.name, p.view(p.weight.data()), m.gradient_of(p));
  for (int step = 0; step < 3; ++step) {
    m.make_gradients(step);
    opt.step();
  }
  return m.weights();
}

}  // namespace

TEST_CASE("what the concept requires is enough: its least model keeps the laws") {
  normuon::testing::check_backend([] { return archetype_backend(); });
}

TEST_CASE("all backends train as the least model does, which makes runs of three and hides what its operand holds") {
  for (const named_rule& rule : all_rules()) {
    if (rule.name == std::string("bfloat16")) continue;  // it computes in double only
    CAPTURE(rule.name);
    const std::vector<std::vector<double>> expected = trained(rule.options, archetype_backend());
    const auto check = [&](auto backend) {
      using real = typename decltype(backend)::real;
      // In roundings: three of a weight below 8 make 12, and steps of 0.04 in all, of which an iteration gets 4 x 485
      // wrong (see newton_schulz_is_the_iteration), make 78. 10 were measured.
      constexpr double bound = 90 * unit_roundoff(sizeof(real) == 4 ? compute_type::float32 : compute_type::float64);
      const std::vector<std::vector<real>> got = trained(rule.options, std::move(backend));
      int apart = 0;
      for (std::size_t i = 0; i < got.size(); ++i)
        for (std::size_t k = 0; k < got[i].size(); ++k)
          if (!(std::abs(static_cast<double>(got[i][k]) - expected[i][k]) <= bound)) ++apart;  // NaN counts
      CHECK(apart == 0);
    };
    check(eigen_backend64({.threads = 1}));
    check(eigen_backend({.threads = 1}));
    check(plain_backend({.threads = 1}));
    check(recording_backend());
  }
}
