#include <doctest/doctest.h>

#include "normuon/backends/eigen.hpp"
#include "support/model.hpp"

using namespace normuon;
using namespace normuon::test;

TEST_CASE("a batch steps like separate matrices, bit for bit") {
  for (const named_rule& rule : all_rules())
    for (const auto& shape : {std::pair<index_t, index_t>{3, 5}, {5, 3}, {1, 7}, {4, 4}}) {
      const index_t m = shape.first, n = shape.second;
      CAPTURE(rule.name);
      CAPTURE(m);
      const auto count = static_cast<std::size_t>(4 * m * n);
      auto together = random_elements<float>(10, count), apart = together;
      const auto g = random_elements<float>(11, count);
      make_steps<eigen_backend>(rule.options, 3, [&](auto& opt, group_id id) {
        opt.add_parameter(id, "w", batched(row_major(together.data(), m, n), 4, m * n),
                          batched(row_major(g.data(), m, n), 4, m * n));
      });
      make_steps<eigen_backend>(rule.options, 3, [&](auto& opt, group_id id) {
        for (index_t b = 0; b < 4; ++b)
          opt.add_parameter(id, std::to_string(b), row_major(apart.data() + b * m * n, m, n),
                            row_major(g.data() + b * m * n, m, n));
      });
      CHECK(same_bits(together, apart));
    }
}

TEST_CASE("row blocks of a fused QKV step like separate parameters, bit for bit") {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    auto fused = random_elements<float>(12, 60), apart = fused;
    const auto g = random_elements<float>(13, 60);
    const auto qkv = row_major(fused.data(), 12, 5);
    const auto qkv_gradient = row_major(g.data(), 12, 5);
    make_steps<eigen_backend>(rule.options, 3, [&](auto& opt, group_id id) {
      for (index_t b = 0; b < 3; ++b)
        opt.add_parameter(id, std::to_string(b), qkv.row_block(4 * b, 4), qkv_gradient.row_block(4 * b, 4));
    });
    make_steps<eigen_backend>(rule.options, 3, [&](auto& opt, group_id id) {
      for (index_t b = 0; b < 3; ++b)
        opt.add_parameter(id, std::to_string(b), row_major(apart.data() + 20 * b, 4, 5),
                          row_major(g.data() + 20 * b, 4, 5));
    });
    CHECK(same_bits(fused, apart));
  }
}

TEST_CASE("a fused matrix is not orthogonalized block by block unless it is given so") {
  auto whole = random_elements<float>(12, 60), blocks = whole;
  const auto g = random_elements<float>(13, 60);
  make_steps<eigen_backend>(muon_options{}, 1, [&](auto& opt, group_id id) {
    opt.add_parameter(id, "w", row_major(whole.data(), 12, 5), row_major(g.data(), 12, 5));
  });
  make_steps<eigen_backend>(muon_options{}, 1, [&](auto& opt, group_id id) {
    opt.add_parameter(id, "w", batched(row_major(blocks.data(), 4, 5), 3, 20),
                      batched(row_major(g.data(), 4, 5), 3, 20));
  });
  CHECK(!same_bits(whole, blocks));
}

TEST_CASE("how a matrix is stored does not change a bit of it: by columns, in by out, backwards, with gaps") {
  for (const named_rule& rule : all_rules())
    for (const auto& shape : {std::pair<index_t, index_t>{6, 4}, {4, 6}, {17, 300}, {300, 17}}) {
      const index_t m = shape.first, n = shape.second;
      CAPTURE(rule.name);
      CAPTURE(m);
      const auto count = static_cast<std::size_t>(m * n);
      const auto w0 = random_elements<float>(14, count), g0 = random_elements<float>(15, count);
      const auto stepped_as = [&](auto weight_layout, auto gradient_layout) {  // views of 4 m n elements as m x n
        std::vector<float> w(4 * count), g(4 * count);
        const matrix_ref<float> weight = weight_layout(w.data()), gradient = gradient_layout(g.data());
        for (index_t i = 0; i < m; ++i)
          for (index_t j = 0; j < n; ++j) {
            weight(i, j) = w0[static_cast<std::size_t>(i * n + j)];
            gradient(i, j) = g0[static_cast<std::size_t>(i * n + j)];
          }
        make_steps<eigen_backend>(rule.options, 3,
                                  [&](auto& opt, group_id id) { opt.add_parameter(id, "w", weight, gradient); });
        std::vector<float> rows;
        for (index_t i = 0; i < m; ++i)
          for (index_t j = 0; j < n; ++j) rows.push_back(weight(i, j));
        return rows;
      };
      const auto stepped = [&](auto layout) { return stepped_as(layout, layout); };
      const auto by_rows = [&](float* p) { return row_major(p, m, n); };
      const auto by_columns = [&](float* p) { return column_major(p, m, n); };
      const std::vector<float> expected = stepped(by_rows);
      CHECK(!same_bits(expected, w0));
      CHECK(same_bits(stepped(by_columns), expected));
      CHECK(same_bits(stepped_as(by_rows, by_columns), expected));
      CHECK(same_bits(stepped_as(by_columns, by_rows), expected));
      CHECK(same_bits(stepped([&](float* p) { return in_by_out(p, n, m); }), expected));
      CHECK(same_bits(stepped([&](float* p) { return matrix_ref<float>{p, m, n, 2 * n, 2}; }), expected));
      CHECK(same_bits(stepped([&](float* p) { return matrix_ref<float>{p + m * n - 1, m, n, -n, -1}; }), expected));
    }
}

TEST_CASE("only the elements of a view are written") {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    std::vector<float> w(80, 7);
    const auto g = random_elements<float>(16, 12);
    make_steps<eigen_backend>(rule.options, 2, [&](auto& opt, group_id id) {
      opt.add_parameter(id, "w", matrix_ref<float>{w.data() + 5, 3, 4, 20, 3}, row_major(g.data(), 3, 4));
    });
    for (std::size_t k = 0; k < w.size(); ++k) {
      const bool inside = k >= 5 && (k - 5) / 20 < 3 && (k - 5) % 20 < 12 && (k - 5) % 20 % 3 == 0;
      CHECK((w[k] != 7) == inside);
    }
  }
}

TEST_CASE("empty parameters are valid and leave their neighbours alone") {
  for (const named_rule& rule : all_rules()) {
    CAPTURE(rule.name);
    auto w = random_elements<float>(17, 12), expected = w;
    const auto g = random_elements<float>(18, 12);
    float* const nothing = nullptr;
    make_steps<eigen_backend>(rule.options, 2, [&](auto& opt, group_id id) {
      opt.add_parameter(id, "0x0", row_major(nothing, 0, 0), row_major(nothing, 0, 0));
      opt.add_parameter(id, "0xn", row_major(nothing, 0, 5), row_major(nothing, 0, 5));
      opt.add_parameter(id, "w", row_major(w.data(), 3, 4), row_major(g.data(), 3, 4));
      opt.add_parameter(id, "mx0", row_major(nothing, 5, 0), row_major(nothing, 5, 0));
      opt.add_parameter(id, "no batch", batched(row_major(nothing, 2, 2), 0, 4));
    });
    make_steps<eigen_backend>(rule.options, 2, [&](auto& opt, group_id id) {
      opt.add_parameter(id, "w", row_major(expected.data(), 3, 4), row_major(g.data(), 3, 4));
    });
    CHECK(same_bits(w, expected));
  }
}
