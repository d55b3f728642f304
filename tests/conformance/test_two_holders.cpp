// A matrix whose U leaves and whose D comes back: two holders keep parts of W and M, each in memory of its own, and an
// owner keeps v. Cut so, every rule gives the bits that it gives whole.
#include <doctest/doctest.h>

#include "normuon/backends/eigen.hpp"
#include "support/model.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

using backend = eigen_backend;
using reals = std::vector<float>;

// Rows and columns of a matrix, from a first one on.
struct block {
  index_t row, col, rows, cols;

  std::size_t size() const { return static_cast<std::size_t>(rows * cols); }
  matrix_ref<float> view(reals& part) const { return row_major(part.data(), rows, cols); }

  // Calls f(place in the part, place in a whole of n columns) for every element.
  void each(index_t n, auto&& f) const {
    for (index_t i = 0; i < rows; ++i)
      for (index_t j = 0; j < cols; ++j)
        f(static_cast<std::size_t>(i * cols + j), static_cast<std::size_t>((row + i) * n + col + j));
  }
  reals cut_from(const reals& whole, index_t n) const {
    reals part(size());
    each(n, [&](std::size_t mine, std::size_t theirs) { part[mine] = whole[theirs]; });
    return part;
  }
  void put_into(reals& whole, const reals& part, index_t n) const {
    each(n, [&](std::size_t mine, std::size_t theirs) { whole[theirs] = part[mine]; });
  }
};

struct holder {
  block part;
  reals W, M, U;

  holder(const block& b, const reals& whole_W, index_t n) : part(b), W(b.cut_from(whole_W, n)), M(b.size()), U(M) {}
};

// What a step needs besides the parts: the rule's numbers, and the owner's memory.
struct owned_matrix {
  index_t m, n;
  group rule;
  matrix_plan plan;
  reals U, D, v, f, r;
  float *v_data = nullptr, *f_data = nullptr, *r_data = nullptr;
  double norm = 0, ok = 1, sound = 1;
  slot norm_slot = &norm, ok_slot = &ok, sound_slot = &sound;
  iteration_workspace<backend> work;
  owner<backend> keeps;
  step_values values;
  step_numbers numbers{&values.keep};
  backend b{{.threads = 1}};

  owned_matrix(const normuon_options& o, index_t rows, index_t cols) : m(rows), n(cols), rule{o, "", {}} {
    const neuron_axis axis = axis_for(o.neuron_axis, m, n);
    plan = {decide<backend>(o.orthogonalizer, o.published, m, n),
            {.axis = axis, .epsilon = o.epsilon, .form = o.epsilon_form, .scale = o.scale, .rows = m, .cols = n}};
    const index_t neurons = neuron_count(axis == neuron_axis::none ? neuron_axis::rows : axis, m, n);
    U.resize(static_cast<std::size_t>(m * n)), D = U;
    v.resize(static_cast<std::size_t>(neurons)), f = r = v;
    v_data = v.data(), f_data = f.data(), r_data = r.data();
    const vectors<float> second{{&v_data, 1}, neurons};
    keeps = {axis == neuron_axis::none ? vectors<float>{} : second,
             {{&f_data, 1}, neurons},
             {{&r_data, 1}, neurons},
             {&norm_slot, 1},
             {&sound_slot, 1},
             &work};
    values = rule.values(1);
  }
  owned_matrix(const owned_matrix&) = delete;
  owned_matrix& operator=(const owned_matrix&) = delete;

  const normuon_options& options() const { return std::get<normuon_options>(rule.options); }
  flags held() const { return {&ok_slot, 1}; }

  // The U of a holder lies where its M is, if the rule makes no other.
  reals& advance(holder& h, const reals& G) {
    reals mine = h.part.cut_from(G, n), &result = options().nesterov ? h.U : h.M;
    const matrix_view M = h.part.view(h.M), U_view = h.part.view(result), G_view = h.part.view(mine);
    normuon_rule<backend>::advance(b, options().nesterov, {&M, 1}, {&U_view, 1}, {&G_view, 1}, numbers, held());
    return result;
  }

  void step_in_parts(std::vector<holder>& holders, const reals& G) {
    for (holder& h : holders) h.part.put_into(U, advance(h, G), n);  // U leaves
    const matrix_view U_view = row_major(U.data(), m, n), D_view = row_major(D.data(), m, n);
    normuon_rule<backend>::direct(b, plan, keeps, {&D_view, 1}, {&U_view, 1}, numbers, held());
    for (holder& h : holders) {  // D comes back
      reals mine = h.part.cut_from(D, n);
      const matrix_view W = h.part.view(h.W), D_part = h.part.view(mine);
      normuon_rule<backend>::apply(b, {&W, 1}, {&W, 1}, {&D_part, 1}, numbers, {options().decay}, keeps.sound);
    }
  }

  void step_whole(holder& all, const reals& G) {
    const matrix_view U_view = all.part.view(advance(all, G)), W = all.part.view(all.W), D_view = all.part.view(D);
    normuon_rule<backend>::direct_and_apply(b, plan, keeps, {&W, 1}, {&W, 1}, {&D_view, 1}, {&U_view, 1}, numbers,
                                            {options().decay}, held());
  }
};

constexpr std::uint64_t steps = 3;
constexpr index_t shapes[][2] = {{17, 29}, {29, 17}, {16, 16}, {1, 8}};

reals first_weights(index_t m, index_t n) { return random_elements<float>(1, static_cast<std::size_t>(m * n)); }
reals gradient_of(std::uint64_t step, index_t m, index_t n) {
  return random_elements<float>(10 + step, static_cast<std::size_t>(m * n));
}

// Halves, one row and the rest, and uneven parts of the columns.
std::vector<std::vector<block>> cuts(index_t m, index_t n) {
  return {{{0, 0, m / 2, n}, {m / 2, 0, m - m / 2, n}},
          {{0, 0, 1, n}, {1, 0, m - 1, n}},
          {{0, 0, m, n / 3}, {0, n / 3, m, n - n / 3}}};
}

std::vector<holder> holders_of(const std::vector<block>& parts, index_t m, index_t n) {
  std::vector<holder> holders;
  for (const block& part : parts) holders.emplace_back(part, first_weights(m, n), n);
  return holders;
}

reals gathered(const std::vector<holder>& holders, reals holder::*what, index_t m, index_t n) {
  reals whole(static_cast<std::size_t>(m * n));
  for (const holder& h : holders) h.part.put_into(whole, h.*what, n);
  return whole;
}

// W after the steps of an optimizer whose parameters are the holders' parts.
reals optimized(const any_options& options, const std::vector<block>& parts, index_t m, index_t n) {
  std::vector<holder> holders = holders_of(parts, m, n);
  optimizer<backend> opt(backend({.threads = 1}));
  const group_id group = add_group(opt, options);
  for (std::size_t k = 0; k < holders.size(); ++k)
    opt.add_parameter(group, std::to_string(k), parts[k].view(holders[k].W));
  for (std::uint64_t step = 0; step < steps; ++step) {
    std::vector<reals> G;
    for (const block& part : parts) G.push_back(part.cut_from(gradient_of(step, m, n), n));
    for (std::size_t k = 0; k < parts.size(); ++k) opt.bind_gradient(std::to_string(k), parts[k].view(G[k]));
    opt.step();
  }
  return gathered(holders, &holder::W, m, n);
}

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
      CAPTURE(n);
      const block all{0, 0, m, n};
      owned_matrix whole(o, m, n);
      holder one(all, first_weights(m, n), n);
      for (std::uint64_t step = 0; step < steps; ++step) whole.step_whole(one, gradient_of(step, m, n));
      CHECK(same_bits(one.W, optimized(rule.options, {all}, m, n)));
      for (const std::vector<block>& parts : cuts(m, n)) {
        owned_matrix matrix(o, m, n);
        std::vector<holder> holders = holders_of(parts, m, n);
        for (std::uint64_t step = 0; step < steps; ++step) matrix.step_in_parts(holders, gradient_of(step, m, n));
        CHECK(same_bits(gathered(holders, &holder::W, m, n), one.W));
        CHECK(same_bits(gathered(holders, &holder::M, m, n), one.M));
        CHECK(same_bits(matrix.v, whole.v));
      }
    }
  }
}

TEST_CASE("AdamW moves the parts of a matrix as it moves the whole, bit for bit") {
  for (const auto& [m, n] : shapes)
    for (const decay_form decay : {decay_form::decoupled, decay_form::cautious}) {
      const adamw_options o{.weight_decay = 0.1, .decay = decay};
      const reals expected = optimized(o, {{0, 0, m, n}}, m, n);
      for (const std::vector<block>& parts : cuts(m, n)) CHECK(same_bits(optimized(o, parts, m, n), expected));
    }
}
