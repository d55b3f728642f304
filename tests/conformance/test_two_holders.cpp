// A matrix whose U leaves and whose D comes back: two holders keep parts of W and M, an owner keeps v. Cut so, every rule
// gives the bits that it gives whole.
#include <doctest/doctest.h>

#include "normuon/backends/eigen.hpp"
#include "support/model.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

using backend = eigen_backend;
using reals = std::vector<float>;

// Rows, or columns, first to first + count - 1 of a row-major rows x cols matrix.
struct part {
  bool rows;
  index_t first, count;

  matrix_view of(reals& x, index_t m, index_t n) const {
    const matrix_ref<float> whole = row_major(x.data(), m, n);
    if (rows) return whole.row_block(first, count);
    return matrix_ref<float>{x.data() + first, m, count, n, 1};
  }
};

// One matrix under a rule, with the memory that its holders and its owner keep.
struct cut_matrix {
  index_t m, n;
  group rule;
  matrix_plan plan;
  reals W, G, M, U, D, v, f, r;
  double norm = 0, ok = 1, sound = 1, counter = 0;
  step_values values;
  iteration_workspace<backend> work;
  backend b{{.threads = 1}};

  cut_matrix(const normuon_options& o, index_t rows, index_t cols) : m(rows), n(cols), rule{o, "", {}} {
    const auto size = static_cast<std::size_t>(m * n);
    const neuron_axis axis = axis_for(o.neuron_axis, m, n);
    plan = {decide<backend>(o.orthogonalizer, o.published, m, n),
            {.axis = axis, .epsilon = o.epsilon, .form = o.epsilon_form, .scale = o.scale, .rows = m, .cols = n}};
    W = random_elements<float>(1, size);
    G.resize(size), M.resize(size), U.resize(size), D.resize(size);
    v.resize(static_cast<std::size_t>(std::max(m, n))), f = r = v;
  }

  // One step with the holders' parts, which together are the whole.
  void step(const std::vector<part>& holders) {
    const auto& o = std::get<normuon_options>(rule.options);
    values = rule.values(1);
    const step_numbers k(&values.keep);
    const slot ok_slot = &ok, sound_slot = &sound, norm_slot = &norm;
    const flags ok_flags(&ok_slot, 1), sound_flags(&sound_slot, 1);
    for (const part& p : holders) {  // U leaves
      const matrix_view M_part = p.of(M, m, n), G_part = p.of(G, m, n);
      const matrix_view U_part = o.nesterov ? p.of(U, m, n) : M_part;
      normuon_rule<backend>::advance(b, o, {&M_part, 1}, {&U_part, 1}, {&G_part, 1}, k, ok_flags);
    }
    const index_t neurons =
        neuron_count(plan.factors.axis == neuron_axis::columns ? neuron_axis::columns : neuron_axis::rows, m, n);
    float *v_data = v.data(), *f_data = f.data(), *r_data = r.data();
    const vectors<float> second =
        plan.factors.axis == neuron_axis::none ? vectors<float>{} : vectors<float>{{&v_data, 1}, neurons};
    owner<backend> s{second, {{&f_data, 1}, neurons}, {{&r_data, 1}, neurons}, {&norm_slot, 1}, sound_flags, &work};
    const matrix_view whole_U = row_major(o.nesterov ? U.data() : M.data(), m, n), whole_D = row_major(D.data(), m, n);
    normuon_rule<backend>::direct(b, plan, s, {&whole_D, 1}, {&whole_U, 1}, k, ok_flags);
    for (const part& p : holders) {  // D comes back
      const matrix_view W_part = p.of(W, m, n), D_part = p.of(D, m, n);
      normuon_rule<backend>::apply(b, {&W_part, 1}, {&W_part, 1}, {&D_part, 1}, k, {o.decay}, sound_flags);
    }
  }
};

// W after three steps of an optimizer that has the matrix whole.
reals whole(const any_options& options, index_t m, index_t n) {
  const auto size = static_cast<std::size_t>(m * n);
  reals W = random_elements<float>(1, size), G(size);
  optimizer<backend> opt(backend({.threads = 1}));
  opt.add_parameter(add_group(opt, options), "w", row_major(W.data(), m, n), row_major(G.data(), m, n));
  for (std::uint64_t step = 0; step < 3; ++step) {
    G = random_elements<float>(10 + step, size);
    opt.bind_gradient("w", row_major(G.data(), m, n));
    opt.step();
  }
  return W;
}

std::vector<std::vector<part>> cuts(index_t m, index_t n) {
  return {{{true, 0, m}},
          {{true, 0, m / 2}, {true, m / 2, m - m / 2}},
          {{true, 0, 1}, {true, 1, m - 1}},
          {{false, 0, n / 3}, {false, n / 3, n - n / 3}}};
}

constexpr index_t shapes[][2] = {{17, 29}, {29, 17}, {16, 16}, {1, 8}};

}  // namespace

TEST_CASE("a matrix rule that is cut at U and at D, by rows or columns, gives the bits that it gives whole") {
  for (const named_rule& rule : all_rules()) {
    if (!rule.is_matrix_rule()) continue;
    const auto* muon = std::get_if<muon_options>(&rule.options);
    const normuon_options o = muon ? normuon_options(*muon) : std::get<normuon_options>(rule.options);
    for (const auto& shape : shapes) {
      const index_t m = shape[0], n = shape[1];
      CAPTURE(rule.name);
      CAPTURE(m);
      const reals expected = whole(rule.options, m, n);
      for (const std::vector<part>& holders : cuts(m, n)) {
        cut_matrix matrix(o, m, n);
        for (std::uint64_t step = 0; step < 3; ++step) {
          matrix.G = random_elements<float>(10 + step, matrix.G.size());
          matrix.step(holders);
        }
        CHECK(same_bits(matrix.W, expected));
      }
    }
  }
}

TEST_CASE("AdamW moves the parts of a matrix as it moves the whole, bit for bit") {
  for (const auto& shape : shapes)
    for (const decay_form decay : {decay_form::decoupled, decay_form::cautious}) {
      const index_t m = shape[0], n = shape[1];
      const adamw_options o{.weight_decay = 0.1, .decay = decay};
      const reals expected = whole(o, m, n);
      for (const std::vector<part>& holders : cuts(m, n)) {
        reals W = random_elements<float>(1, expected.size()), G(W.size());
        optimizer<backend> opt(backend({.threads = 1}));
        const group_id group = opt.add_group(o);
        const auto view = [&](const part& p, reals& x) {
          return p.rows ? row_major(x.data(), m, n).row_block(p.first, p.count)
                        : matrix_ref<float>{x.data() + p.first, m, p.count, n, 1};
        };
        for (std::size_t k = 0; k < holders.size(); ++k)
          opt.add_parameter(group, std::to_string(k), view(holders[k], W));
        for (std::uint64_t step = 0; step < 3; ++step) {
          G = random_elements<float>(10 + step, W.size());
          for (std::size_t k = 0; k < holders.size(); ++k) opt.bind_gradient(std::to_string(k), view(holders[k], G));
          opt.step();
        }
        CHECK(same_bits(W, expected));
      }
    }
}
