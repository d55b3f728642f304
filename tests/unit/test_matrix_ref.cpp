#include <doctest/doctest.h>

#include <array>
#include <numeric>

#include "normuon/matrix_view.hpp"
#include "support/matrix.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// Memory whose element k has the value k, so that an element's value says where it lies.
std::vector<float> counted(index_t count) {
  std::vector<float> memory(static_cast<std::size_t>(count));
  std::iota(memory.begin(), memory.end(), 0.0f);
  return memory;
}

template <class T>
std::vector<index_t> places(const matrix_ref<T>& ref) {
  std::vector<index_t> all;
  for (index_t i = 0; i < ref.rows; ++i)
    for (index_t j = 0; j < ref.cols; ++j) all.push_back(static_cast<index_t>(ref(i, j)));
  return all;
}

}  // namespace

TEST_CASE("row-major, column-major and in-by-out weights of one matrix show the same elements") {
  const index_t m = 3, n = 5;
  std::vector<float> memory = counted(m * n);
  const matrix_ref rows = row_major(memory.data(), m, n), columns = column_major(memory.data(), m, n);
  const matrix_ref inputs = in_by_out(memory.data(), n, m);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < n; ++j) {
      CHECK(rows(i, j) == static_cast<float>(i * n + j));
      CHECK(columns(i, j) == static_cast<float>(j * m + i));
      CHECK(inputs(i, j) == static_cast<float>(j * m + i));  // row j of the (in, out) storage is input j
    }
  CHECK(inputs.rows == m);
  CHECK(inputs.cols == n);
  CHECK(rows.batch == 1);
}

TEST_CASE("a vector is one row") {
  std::vector<float> memory = counted(7);
  const matrix_ref v = vector(memory.data(), 7);
  CHECK(v.rows == 1);
  CHECK(v.cols == 7);
  CHECK(places(v) == std::vector<index_t>{0, 1, 2, 3, 4, 5, 6});
}

TEST_CASE("a row block of a fused weight is its rows, in every matrix of a batch") {
  const index_t heads = 2, m = 6, n = 4;
  std::vector<float> memory = counted(heads * m * n);
  const matrix_ref fused = batched(row_major(memory.data(), m, n), heads, m * n);
  const matrix_ref keys = fused.row_block(2, 2);
  CHECK(keys.rows == 2);
  CHECK(keys.batch == heads);
  for (index_t b = 0; b < heads; ++b)
    for (index_t i = 0; i < 2; ++i)
      for (index_t j = 0; j < n; ++j) CHECK(keys.one(b)(i, j) == static_cast<float>(b * m * n + (i + 2) * n + j));
  CHECK(places(in_by_out(memory.data(), 3, 4).row_block(1, 2)) == std::vector<index_t>{1, 5, 9, 2, 6, 10});
}

TEST_CASE("a row block may be empty or whole, and nothing beyond") {
  std::vector<float> memory = counted(12);
  const matrix_ref all = row_major(memory.data(), 3, 4);
  CHECK(all.row_block(0, 3).rows == 3);
  CHECK(all.row_block(3, 0).rows == 0);
  CHECK(refusal_of([&] {
          all.row_block(2, 2);
        }).is(error_code::parameter, "expected a block within 3 rows, got 2 rows from row 2"));
  CHECK(refusal_of([&] {
          all.row_block(-1, 2);
        }).is(error_code::parameter, "expected a block within 3 rows, got 2 rows from row -1"));
  CHECK(refusal_of([&] {
          all.row_block(0, -1);
        }).is(error_code::parameter, "expected a block within 3 rows, got -1 rows from row 0"));
  const index_t most = std::numeric_limits<index_t>::max();
  // 1 + most must not be formed.
  CHECK(refusal_of([&] { all.row_block(1, most); }).is(error_code::parameter, "expected a block within 3 rows"));
}

TEST_CASE("a batch holds every matrix at its stride, and no other") {
  std::vector<float> memory = counted(40);
  const matrix_ref experts = batched(column_major(memory.data(), 2, 3), 4, 10);
  CHECK(experts.batch == 4);
  for (index_t b = 0; b < 4; ++b) {
    const matrix_ref expert = experts.one(b);
    CHECK(expert.batch == 1);
    CHECK(expert.batch_stride == 0);
    CHECK(places(expert) == std::vector<index_t>{10 * b, 10 * b + 2, 10 * b + 4, 10 * b + 1, 10 * b + 3, 10 * b + 5});
  }
  CHECK(refusal_of([&] { experts.one(4); }).is(error_code::parameter, "expected a matrix of 0 to 3, got 4"));
  CHECK(refusal_of([&] { experts.one(-1); }).is(error_code::parameter, "expected a matrix of 0 to 3, got -1"));
  CHECK(refusal_of([&] {
          batched(experts, 2, 100);
        }).is(error_code::parameter, "expected one matrix to repeat, got a batch of 4"));
}

TEST_CASE("negative strides walk backwards") {
  std::vector<float> memory = counted(6);
  const matrix_ref<float> reversed{memory.data() + 5, 2, 3, -3, -1};
  CHECK(places(reversed) == std::vector<index_t>{5, 4, 3, 2, 1, 0});
}

TEST_CASE("a convolution kernel has one row per output channel and its columns in memory order") {
  const index_t out = 3, in = 2, height = 2, width = 4;
  std::vector<float> memory = counted(out * in * height * width);
  // Where element (o, i, y, x) lies in each layout, by nested loops, and in which column of row o it must show.
  index_t ois = 0, osi = 0, sio = 0;
  const matrix_ref a = conv_kernel(memory.data(), out, in, {height, width}, conv_order::ois);
  const matrix_ref b = conv_kernel(memory.data(), out, in, {height, width}, conv_order::osi);
  const matrix_ref c = conv_kernel(memory.data(), out, in, {height, width}, conv_order::sio);
  for (index_t o = 0; o < out; ++o)
    for (index_t i = 0; i < in; ++i)
      for (index_t y = 0; y < height; ++y)
        for (index_t x = 0; x < width; ++x) CHECK(a(o, (i * height + y) * width + x) == static_cast<float>(ois++));
  for (index_t o = 0; o < out; ++o)
    for (index_t y = 0; y < height; ++y)
      for (index_t x = 0; x < width; ++x)
        for (index_t i = 0; i < in; ++i) CHECK(b(o, (y * width + x) * in + i) == static_cast<float>(osi++));
  for (index_t y = 0; y < height; ++y)
    for (index_t x = 0; x < width; ++x)
      for (index_t i = 0; i < in; ++i)
        for (index_t o = 0; o < out; ++o) CHECK(c(o, (y * width + x) * in + i) == static_cast<float>(sio++));
  for (const matrix_ref<float>& kernel : {a, b, c}) {
    CHECK(kernel.rows == out);
    CHECK(kernel.cols == in * height * width);
  }
  CHECK(conv_kernel(memory.data(), out, in, {8}, conv_order::ois).cols == 16);        // 1-d
  CHECK(conv_kernel(memory.data(), out, in, {2, 2, 2}, conv_order::osi).cols == 16);  // 3-d
}

TEST_CASE("a view of mutable elements is one of constant elements, not the other way round") {
  std::vector<float> memory = counted(6);
  const matrix_ref<const float> constant = batched(row_major(memory.data(), 1, 3), 2, 3);
  CHECK(constant.data == memory.data());
  CHECK(constant.batch == 2);
  CHECK(constant.batch_stride == 3);
  CHECK(places(constant.one(1)) == std::vector<index_t>{3, 4, 5});
  static_assert(std::is_convertible_v<matrix_ref<float>, matrix_ref<const float>>);
  static_assert(!std::is_convertible_v<matrix_ref<const float>, matrix_ref<float>>);
}

TEST_CASE_TEMPLATE("a view whose type is a value shows the same elements", T, double, float, bfloat16, float16) {
  std::array<T, 12> memory{};
  for (std::size_t k = 0; k < memory.size(); ++k) memory[k] = T(static_cast<float>(k));
  const matrix_ref<const T> ref = in_by_out(static_cast<const T*>(memory.data()), 3, 4);
  const matrix_view view = ref;
  CHECK(view.type == element_type_of<T>);
  CHECK(places(view.as<T>()) == places(ref));
  CHECK(matrix_view().data == nullptr);
}
