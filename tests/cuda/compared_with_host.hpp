// A training on the GPU backend beside the same one on the Eigen backend: models of every rule, and how far apart their
// weights and states may be.
#ifndef NORMUON_TESTS_CUDA_COMPARED_WITH_HOST_HPP
#define NORMUON_TESTS_CUDA_COMPARED_WITH_HOST_HPP

#include <doctest/doctest.h>

#include "cuda/placed_model.hpp"
#include "normuon/backends/eigen.hpp"
#include "support/matrix.hpp"
#include "support/tolerance.hpp"

namespace normuon::test {

inline any_options in_float32(any_options options) {
  std::visit(
      [](auto& o) {
        if constexpr (requires { o.orthogonalizer; }) o.orthogonalizer.compute = compute_type::float32;
      },
      options);
  return options;
}

// Two shapes of every rule, one of them a batch, that are not a multiple of anything. And of some one that is larger
// than a tile on both sides and has more elements than one block is meant for, wide or tall.
template <element T>
std::vector<owned_parameter<T>> every_rule(bool float32) {
  std::vector<owned_parameter<T>> all;
  std::size_t i = 0;
  for (const named_rule& rule : all_rules()) {
    const any_options o = float32 ? in_float32(rule.options) : rule.options;
    all.emplace_back(rule.name, o, 9, 70, 2);
    all.emplace_back(rule.name + " tall", o, 67, 12);
    if (i % 4 == 0) all.emplace_back(rule.name + " large", o, 70, 131);
    if (i % 4 == 2 || !rule.is_matrix_rule()) all.emplace_back(rule.name + " tall and large", o, 131, 70);
    ++i;
  }
  return all;
}

// Weights of matrix rules that began as `start`, made `steps` steps and iterated in float32: relative to how far they
// moved, see iteration_tolerance of a matrix whose neurons have norms of about one. AdamW's have the same bits.
inline void check_weights_of_host(const std::vector<owned_parameter<float>>& parameters, int steps,
                                  const std::vector<std::vector<float>>& start,
                                  const std::vector<std::vector<float>>& got,
                                  const std::vector<std::vector<float>>& expected) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(parameters[i].name);
    if (std::holds_alternative<adamw_options>(parameters[i].options)) {
      CHECK(same_bits(got[i], expected[i]));
      continue;
    }
    double moved = 0, apart = 0;
    for (std::size_t k = 0; k < got[i].size(); ++k) {
      moved = std::max(moved, static_cast<double>(std::abs(expected[i][k] - start[i][k])));
      apart = std::max(apart, static_cast<double>(std::abs(got[i][k] - expected[i][k])));
    }
    const double rounding = steps * tolerance<float>::elementwise * 5;  // of weights up to 5
    const double iterated = iteration_tolerance(compute_type::float32, polar_express_102, iteration_form::gram, 1);
    CHECK(apart <= 2 * iterated * moved + rounding);
  }
}

// What is elementwise has the same bits.
inline void check_state_of_host(const std::vector<named_tensor>& got, const std::vector<named_tensor>& expected) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(got[i].name);
    if (!got[i].name.ends_with(".second_moment") || got[i].name.find("adamw") != std::string::npos)
      CHECK(same_bits(got[i].values, expected[i].values));
    else CHECK(relative_error(got[i].values, expected[i].values) <= 1e-3);
  }
}

}  // namespace normuon::test

#endif
