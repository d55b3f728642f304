// Weights and gradients that are stored by columns on several ranks: the bits are those of one process by rows.
#include <algorithm>
#include <mutex>

#include "dist/sharded_runs.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

constexpr index_t rows = 70, cols = 133, batch = 2;
constexpr std::size_t count = rows * cols * batch;
using numbers = std::vector<bfloat16>;

template <class T>
matrix_ref<T> by_rows(T* data) {
  return batched(row_major(data, rows, cols), batch, rows * cols);
}
template <class T>
matrix_ref<T> by_columns(T* data) {
  return batched(column_major(data, rows, cols), batch, rows * cols);
}

// Copies all rectangles of every matrix.
void copy(const matrix_ref<bfloat16>& to, const matrix_ref<bfloat16>& from, const rectangle_list& rectangles) {
  for (const rectangle& r : rectangles)
    for (index_t b = 0; b < batch; ++b)
      for (index_t i = r.row; i < r.row + r.rows; ++i)
        for (index_t j = r.col; j < r.col + r.cols; ++j) to.one(b)(i, j) = from.one(b)(i, j);
}

numbers gradient_of_step(std::uint64_t step) { return random_elements<bfloat16>(10 + step, count); }

// Three steps of one process by rows. Leaves the weight in `w` and returns the state.
whole_tensors stepped_alone(const any_options& options, numbers& w) {
  numbers g(count);
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  const group_id id = std::visit([&](const auto& o) { return opt.add_group(o); }, options);
  opt.add_parameter(id, "w", by_rows(w.data()), by_rows(g.data()));
  for (std::uint64_t step = 0; step < 3; ++step) {
    std::ranges::copy(gradient_of_step(step), g.begin());
    opt.step();
  }
  whole_tensors state;
  for (const named_tensor& t : opt.export_state()) put_state(state, t);
  return state;
}

}  // namespace

TEST_CASE("what ranks hold by columns has the bits of one process by rows, in every layout, masters and state too") {
  const any_options all[] = {
      normuon_options{.weight_rounding = weight_rounding::stochastic},
      normuon_options{.weight_rounding = weight_rounding::master},
      normuon_options{.nesterov = true, .weight_rounding = weight_rounding::master},
      adamw_options{.weight_rounding = weight_rounding::master},
  };
  const numbers begin = random_elements<bfloat16>(1, count);
  for (const any_options& options : all) {
    numbers expected = begin;
    const whole_tensors expected_state = stepped_alone(options, expected);
    for (const named_layout& l : layouts(rows, cols))
      for (const int ranks : {2, 3}) {
        CAPTURE(l.name);
        CAPTURE(ranks);
        numbers got(count);  // each rank writes what it holds
        whole_tensors state;
        std::mutex one_at_a_time;
        run_loopback(ranks, {}, [&](loopback engine) {
          const int rank = engine.rank();
          const layout how = l.of(ranks);
          numbers w(count), g(count), given = begin;
          const rectangle_list whole = layout::replicated().rectangles(rows, cols, 0, 1);
          copy(by_columns(w.data()), by_rows(given.data()), whole);
          optimizer<eigen_backend, loopback> opt(eigen_backend({.threads = 1}), {}, std::move(engine));
          const group_id id = std::visit([&](const auto& o) { return opt.add_group(o); }, options);
          opt.add_parameter(id, "w", shard(by_columns(w.data()), how, rank, ranks),
                            shard(by_columns(g.data()), how, rank, ranks));
          for (std::uint64_t step = 0; step < 3; ++step) {
            given = gradient_of_step(step);
            copy(by_columns(g.data()), by_rows(given.data()), whole);
            opt.step();
          }
          const std::vector<named_tensor> mine = opt.export_state();
          const std::lock_guard lock(one_at_a_time);
          for (const named_tensor& t : mine) put_state(state, t);
          copy(by_rows(got.data()), by_columns(w.data()), how.rectangles(rows, cols, rank, ranks));
        }).rethrow_first();
        CHECK(same_bits(got, expected));
        CHECK(state == expected_state);
      }
  }
}
