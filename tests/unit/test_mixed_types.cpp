#include <doctest/doctest.h>

#include "normuon/backends/eigen.hpp"
#include "support/model.hpp"
#include "support/single_matrix.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Steps of a weight of type T with gradients of type G, and of the same numbers in the backend's own type, rounded to T
// after every step: state is of that type in both.
template <class Backend, element T, element G>
void check_types(const any_options& options) {
  using real = typename Backend::real;
  random_source random(20);
  std::vector<T> w = elements_of<T>(random.gaussian(4, 6));
  const std::vector<G> g = elements_of<G>(random.gaussian(4, 6));
  std::vector<real> wide_w(w.begin(), w.end()), wide_g;
  for (const G x : g) wide_g.push_back(static_cast<real>(x));
  const std::vector<G> untouched = g;

  optimizer<Backend> opt(Backend({.threads = 1}));
  const group_id id = add_group(opt, options);
  opt.add_parameter(id, "w", row_major(w.data(), 4, 6), row_major(g.data(), 4, 6));
  opt.add_parameter(id, "wide", row_major(wide_w.data(), 4, 6), row_major(wide_g.data(), 4, 6));
  for (int step = 0; step < 3; ++step) {
    opt.step();
    for (real& x : wide_w) x = static_cast<real>(static_cast<T>(x));
  }
  CHECK(same_bits(std::vector<real>(w.begin(), w.end()), wide_w));
  CHECK(same_bits(g, untouched));
  const auto narrow = opt.export_state("w"), wide = opt.export_state("wide");
  for (std::size_t i = 0; i < narrow.size(); ++i) CHECK(same_bits(narrow[i].values, wide[i].values));
}

template <class Backend, element T>
void check_gradient_types(const any_options& options) {
  check_types<Backend, T, float>(options);
  check_types<Backend, T, bfloat16>(options);
  check_types<Backend, T, float16>(options);
  if constexpr (Backend::takes(element_type::float64)) check_types<Backend, T, double>(options);
}

}  // namespace

TEST_CASE_TEMPLATE(
    "a weight of any type moves as one of state's type does, rounded once a step; gradients stay as they are", T, float,
    bfloat16, float16) {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    check_gradient_types<eigen_backend, T>(with_rounding(weight_rounding::nearest, rule.options));
  }
}

TEST_CASE_TEMPLATE("state is double on the double backend, whatever the types of weights and gradients", T, double,
                   float, bfloat16, float16) {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    check_gradient_types<eigen_backend64, T>(with_rounding(weight_rounding::nearest, rule.options));
  }
}

TEST_CASE("parameters of several types share a group, and a step of each is what it is alone") {
  random_source random(21);
  const matrix W = random.gaussian(5, 3), G = random.gaussian(5, 3);
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    std::vector<float> w32 = elements_of<float>(W);
    std::vector<bfloat16> w16 = elements_of<bfloat16>(W);
    std::vector<float16> h16 = elements_of<float16>(W);
    const auto g32 = elements_of<float>(G);
    const auto g16 = elements_of<float16>(G);
    auto alone32 = w32;
    auto alone16 = w16;
    auto alone_h16 = h16;
    const auto bind = [&](auto& opt, group_id id, const char* name, auto& w, const auto& g) {
      opt.add_parameter(id, name, row_major(w.data(), 5, 3), row_major(g.data(), 5, 3));
    };
    const auto alone = [&](const char* name, auto& w, const auto& g) {
      optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
      bind(opt, add_group(opt, rule.options), name, w, g);
      opt.step();
      opt.step();
    };
    alone("float", alone32, g16);
    alone("bfloat16", alone16, g32);
    alone("float16", alone_h16, g16);
    optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
    const group_id id = add_group(opt, rule.options);
    bind(opt, id, "float", w32, g16);
    bind(opt, id, "bfloat16", w16, g32);
    bind(opt, id, "float16", h16, g16);
    opt.step();
    opt.step();
    CHECK(same_bits(w32, alone32));
    CHECK(same_bits(w16, alone16));
    CHECK(same_bits(h16, alone_h16));
  }
}

TEST_CASE("a backend refuses the types that it does not take, and says which") {
  CHECK(!eigen_backend::takes(element_type::float64));
  for (const auto type : {element_type::float32, element_type::bfloat16, element_type::float16}) {
    CHECK(eigen_backend::takes(type));
    CHECK(eigen_backend64::takes(type));
  }
  CHECK(eigen_backend64::takes(element_type::float64));
}

TEST_CASE_TEMPLATE("Eigen's 16-bit numbers have the layout of ours", Pair, std::pair<Eigen::bfloat16, bfloat16>,
                   std::pair<Eigen::half, float16>) {
  using theirs = typename Pair::first_type;
  using ours = typename Pair::second_type;
  static_assert(sizeof(theirs) == sizeof(ours) && alignof(theirs) == alignof(ours));
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const auto x = std::bit_cast<theirs>(ours::from_bits(static_cast<std::uint16_t>(bits)));
    CHECK(std::bit_cast<std::uint32_t>(static_cast<float>(x)) ==
          std::bit_cast<std::uint32_t>(static_cast<float>(std::bit_cast<ours>(x))));
  }
}
