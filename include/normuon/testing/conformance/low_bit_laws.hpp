// Laws of weights of 16 bits: what is rounded by chance takes the numbers of its stream and no others, and a master
// keeps what its weight has no room for. Results are compared bit for bit.
#ifndef NORMUON_TESTING_CONFORMANCE_LOW_BIT_LAWS_HPP
#define NORMUON_TESTING_CONFORMANCE_LOW_BIT_LAWS_HPP

#include <string>

#include "normuon/testing/conformance/element_laws.hpp"
#include "normuon/testing/conformance/operands.hpp"

namespace normuon::testing {

// Parts of tensors of their own: wider than the matrix, from an element in the middle of a block, and far behind.
inline std::vector<random_stream> streams_of_parts(index_t count, index_t cols) {
  std::vector<random_stream> streams;
  for (index_t i = 0; i < count; ++i)
    streams.push_back({random_key(3, std::string(static_cast<std::size_t>(i), 'w')),
                       (index_t{1} << 33) * i + 4 * i + 3 * (i % 2), cols + i % 2 * 5});
  return streams;
}

// x, a Real at (i, j), as it is rounded to `type` in the step numbered `step`.
template <class Real>
double rounded_by_chance(element_type type, Real x, const random_stream& s, std::uint64_t step, index_t i, index_t j) {
  const index_t e = s.element(i, j);
  const std::uint32_t random = random_bits(s.key, step, e / 4)[static_cast<std::size_t>(e % 4)];
  return with_element_type(type,
                           [&]<element T>(T) { return static_cast<double>(stochastically_rounded<T>(x, random)); });
}

// f(real at (i, j) of W, of D), rounded by chance.
template <class Real, class F>
matrix stepped_by_chance(element_type type, const matrix& W, const matrix& D, const random_stream& s,
                         std::uint64_t step, F&& f) {
  matrix result = W;
  for (index_t i = 0; i < W.rows; ++i)
    for (index_t j = 0; j < W.cols; ++j)
      result(i, j) =
          rounded_by_chance<Real>(type, f(static_cast<Real>(W(i, j)), static_cast<Real>(D(i, j))), s, step, i, j);
  return result;
}

// Whether a weight or a change is written, and however both lie.
template <tensor_backend B>
void apply_rounds_by_the_numbers_of_streams(B& b) {
  using real = typename B::real;
  constexpr double rate = 0.02, decay = 0.002;
  const device_slots<B> k(b, column({rate, decay})), steps(b, column({1, 0x1p33, 7}));
  for_each_awkward_run<B>([&](extent e, index_t count, int variant) {
    for (const write_form write : write_forms) {
      const update_formula formula{.write = write};
      device_matrices<B> W(b, types_taken<B>(), random_run(e, count, 1), variant);
      device_matrices<B> change(b, types_taken<B>(), random_run(e, count, 2), variant + 3);
      const device_matrices<B> D(b, {state_type<B>}, random_run(e, count, 3), variant + 2);
      device_matrices<B>& out = write == write_form::weight ? W : change;
      const std::vector<random_stream> streams = streams_of_parts(count, e.cols);
      const std::vector<slot> counters = {steps[0], steps[1], steps[2]};
      const low_bits low{.streams = streams, .steps = slots(counters).first(out.count())};
      b.apply(out, W, D, k[0], k[1], formula, {}, low);
      const auto step = [&](real w, real d) {
        return updated(w, d, static_cast<real>(rate), static_cast<real>(decay), formula);
      };
      for (std::size_t i = 0; i < out.count(); ++i) {
        const std::uint64_t numbers[] = {1, std::uint64_t{1} << 33, 7};
        CHECK_EQ(difference(out.get(i),
                            stepped_by_chance<real>(out.type(i), W.given(i), D.given(i), streams[i], numbers[i], step)),
                 "");
      }
    }
  });
}

// Masters of a run, of which some elements belong to their weights and some do not, as somebody has written these.
template <tensor_backend B>
std::vector<matrix> masters_beside(const device_matrices<B>& W) {
  std::vector<matrix> masters;
  for (std::size_t i = 0; i < W.count(); ++i) {
    matrix master = W.given(i);
    for (std::size_t k = 0; k < master.values.size(); ++k) {
      const auto more = static_cast<typename B::real>(master.values[k] * (1 + (k % 3 == 0 ? 0x1p-13 : 0.0)));
      master.values[k] = k % 5 == 0 ? 0.0 : static_cast<double>(more);
    }
    masters.push_back(master);
  }
  return masters;
}

template <tensor_backend B>
void apply_moves_masters(B& b) {
  using real = typename B::real;
  constexpr double rate = 0.0002, decay = 0.00002;
  const device_slots<B> k(b, column({rate, decay}));
  for_each_awkward_run<B>([&](extent e, index_t count, int variant) {
    device_matrices<B> W(b, types_taken<B>(), random_run(e, count, 1), variant);
    const device_matrices<B> D(b, {state_type<B>}, random_run(e, count, 3), variant + 2);
    device_matrices<B> masters(b, {state_type<B>}, masters_beside<B>(W), variant + 1);
    std::vector<matrix_view> table = masters.without(0);
    table[0] = views(masters)[0];
    if (count == 3) table[2].data = nullptr;
    b.apply(W, W, D, k[0], k[1], {}, {}, {.masters = table});
    for (std::size_t i = 0; i < W.count(); ++i) {
      const matrix w = W.given(i), m = masters.given(i), d = D.given(i);
      matrix expected = w;
      for (std::size_t j = 0; j < w.values.size(); ++j)
        with_element_type(W.type(i), [&]<element T>(T) {
          const auto weight = static_cast<T>(w.values[j]);
          const real from =
              i == 2 ? static_cast<real>(weight) : where_step_begins(static_cast<real>(m.values[j]), weight);
          expected.values[j] =
              static_cast<double>(updated(from, static_cast<real>(d.values[j]), static_cast<real>(rate),
                                          static_cast<real>(decay), update_formula{}));
        });
      if (i == 2) CHECK(masters.unchanged(i));
      else CHECK_EQ(difference(masters.get(i), expected), "");
      CHECK_EQ(difference(W.get(i), by_formula<real>(
                                        W.type(i), [](real x) { return x; }, expected)),
               "");
    }
  });
}

// AdamW and the fused step write as `apply` does, from the same place; what a flag protects stays, the master too.
template <tensor_backend B>
void adamw_keeps_low_bits_as_apply_does(B& b) {
  const std::vector<element_type> state = {state_type<B>};
  const device_slots<B> k(b, column({0.9, 0.99, 1, 0.001, 0.0001, 0, 0})), ok(b, column({1, 0, 1}));
  const adamw_numbers numbers{k[0], k[1], k[2], k[3], k[4]};
  for (int variant = 0; variant < layout_count * 4; ++variant)
    for (const bool with_masters : {false, true}) {
      CAPTURE(variant);
      const auto run = [&](int seed) { return random_run({17, 29}, 3, seed); };
      device_matrices<B> W(b, types_taken<B>(), run(1), variant), expected(b, types_taken<B>(), run(1), variant);
      const device_matrices<B> G(b, types_taken<B>(), run(2), variant + 1);
      device_matrices<B> M(b, state, run(3)), V(b, state, std::vector<matrix>(3, matrix(17, 29, 0.5)));
      device_matrices<B> masters(b, state, masters_beside<B>(W), variant + 1),
          their_masters(b, state, masters_beside<B>(W), variant + 1);
      device_slots<B> steps(b, column({1, 2, 3})), norms(b, matrix(3, 1));
      const std::vector<random_stream> streams = streams_of_parts(3, 29);
      const auto low = [&](views m) {
        return with_masters ? low_bits{.masters = m} : low_bits{.streams = streams, .steps = steps};
      };
      b.adamw(W, W, M, V, G, steps, numbers, 1e-8, {}, norms, ok, low(masters));
      // The direction, from the moments that are there now.
      std::vector<matrix> directions;
      for (std::size_t i = 0; i < 3; ++i) {
        using real = typename B::real;
        directions.push_back(by_formula<real>(
            state_type<B>,
            [&](real m, real v) {
              return adamw_direction(m, std::sqrt(v * bias_correction<real>(0.99, i + 1)),
                                     bias_correction<real>(0.9, i + 1), static_cast<real>(1e-8));
            },
            M.get(i), V.get(i)));
      }
      const device_matrices<B> D(b, state, directions);
      b.apply(expected, expected, D, k[3], k[4], {}, ok, low(their_masters));
      for (std::size_t i = 0; i < 3; ++i) {
        CHECK_EQ(difference(W.get(i), expected.get(i)), "");
        CHECK_EQ(difference(masters.get(i), their_masters.get(i)), "");
      }
      CHECK((W.unchanged(1) && masters.unchanged(1)));
      CHECK_FALSE(W.unchanged(0));
    }
}

template <tensor_backend B>
void a_neuron_step_keeps_low_bits_as_its_parts_do(B& b) {
  const std::vector<element_type> state = {state_type<B>};
  const device_slots<B> k(b, column({0.02, 0.002})), ok(b, column({1, 0, 1})), steps(b, column({5, 6, 7}));
  for_each_iteration_run<B>([&](compute_type compute, extent e, index_t count, int variant) {
    if (count != 3) return;
    const auto [s, l] = std::minmax(e.rows, e.cols);
    const typename B::operand X = operand_of(b, random_run({s, l}, count, 1), compute);
    const device_vectors<B, typename B::real> f(b, random_matrix(count, s, 2));
    const std::vector<random_stream> streams = streams_of_parts(count, e.cols);
    for (const bool with_masters : {false, true}) {
      const auto stepped = [&](auto&& step) {
        device_matrices<B> W(b, types_taken<B>(), random_run(e, count, 3), variant);
        device_matrices<B> masters(b, state, masters_beside<B>(W), variant + 1);
        const device_matrices<B> D(b, state, random_run(e, count, 5));
        step(W, D, with_masters ? low_bits{.masters = masters} : low_bits{.streams = streams, .steps = steps});
        std::vector<matrix> result;
        for (std::size_t i = 0; i < W.count(); ++i) result.push_back(W.get(i)), result.push_back(masters.get(i));
        return result;
      };
      const std::vector<matrix> whole = stepped([&](views W, views D, const low_bits& low) {
        neuron_step(b, W, W, D, f, X, side::rows, k[0], k[1], {}, ok, low);
      });
      const std::vector<matrix> parts = stepped([&](views W, views D, const low_bits& low) {
        b.store_scaled(D, f, X, side::rows, ok);
        b.apply(W, W, D, k[0], k[1], {}, ok, low);
      });
      for (std::size_t i = 0; i < whole.size(); ++i) CHECK_EQ(difference(whole[i], parts[i]), "");
    }
  });
}

}  // namespace normuon::testing

#endif
