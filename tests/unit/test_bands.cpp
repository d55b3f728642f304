#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "normuon/backends/cpu/bands.hpp"

using namespace normuon;

TEST_CASE("bands are all rows once, and no more than there is room for") {
  for (const index_t rows : {0, 1, 31, 95, 96, 97, 200, 6143, 6144, 6145, 100'000, 1'000'003}) {
    CAPTURE(rows);
    const bands all(rows);
    CHECK(all.count() <= bands::most);
    index_t next = 0;
    for (index_t k = 0; k < all.count(); ++k) {
      CHECK(all[k].first == next);
      CHECK(all[k].first % bands::door == 0);
      CHECK(all[k].end > all[k].first);
      next = all[k].end;
    }
    CHECK(next == rows);
  }
}

TEST_CASE("a matrix that is stored by columns has bands of columns, whose parts are rows of its transpose") {
  std::vector<float> x(20 * 200);
  for (std::size_t k = 0; k < x.size(); ++k) x[k] = static_cast<float>(k);
  const matrix_view v = column_major(x.data(), 20, 200);
  const bands all = bands::as_stored(v);
  CHECK(all.count() == 3);
  const matrix_view p = part(v, all[1]);
  CHECK(p.rows == 96);
  CHECK(p.cols == 20);
  for (index_t i = 0; i < p.rows; ++i)
    for (index_t j = 0; j < p.cols; ++j) CHECK(p.as<float>()(i, j) == v.as<float>()(j, 96 + i));
  CHECK(bands::as_stored(row_major(x.data(), 200, 20)).count() == 3);
  CHECK(bands::as_stored(row_major(x.data(), 4000, 1)).count() == 42);
  CHECK(!bands::as_stored(row_major(x.data(), 200, 20))[0].of_columns);
}

TEST_CASE("a part of a matrix is its rows, wherever they lie") {
  std::vector<float> x(200);
  for (std::size_t k = 0; k < x.size(); ++k) x[k] = static_cast<float>(k);
  for (const matrix_view& v : {matrix_view(row_major(x.data(), 20, 10)), matrix_view(column_major(x.data(), 20, 10))}) {
    const matrix_view p = part(v, {3, 8});
    CHECK(p.rows == 5);
    CHECK(p.cols == 10);
    for (index_t i = 0; i < p.rows; ++i)
      for (index_t j = 0; j < p.cols; ++j) CHECK(p.as<float>()(i, j) == v.as<float>()(3 + i, j));
  }
  CHECK(part(matrix_view(), {0, 0}).data == nullptr);  // an absent gradient
}

TEST_CASE("a sum over bands has the same bits on any number of threads") {
  const auto sum = [](int threads, index_t rows) {
    thread_pool pool(threads);
    lanes<thread_pool> several{&pool};
    return sum_over_bands(several, rows, [](const band& b) {
      double part = 0;
      for (index_t i = b.first; i < b.end; ++i) part += std::sqrt(static_cast<double>(i + 1));
      return part;
    });
  };
  for (const index_t rows : {1, 100, 5000}) {
    double expected = 0;
    for (index_t i = 0; i < rows; ++i) expected += std::sqrt(static_cast<double>(i + 1));
    CHECK(sum(1, rows) == doctest::Approx(expected).epsilon(1e-12));
    for (const int threads : {2, 3, 8}) CHECK(sum(threads, rows) == sum(1, rows));
  }
}
