#include <doctest/doctest.h>

#include "normuon/backends/eigen_view.hpp"

using namespace normuon;

namespace {

template <class Scalar>
using by_rows = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class M>
using view_type = decltype(view_of(std::declval<M>()));

template <class M>
concept viewable = requires(M&& m) { view_of(std::forward<M>(m)); };

// Every element of the view lies where Eigen says that it does.
template <class M>
bool shows(const auto& view, M&& m) {
  if (view.batch != 1 || view.rows != m.rows() || view.cols != m.cols()) return false;
  for (index_t i = 0; i < view.rows; ++i)
    for (index_t j = 0; j < view.cols; ++j)
      if (static_cast<const void*>(&view(i, j)) != static_cast<const void*>(&m.coeffRef(i, j))) return false;
  return true;
}

}  // namespace

TEST_CASE_TEMPLATE("a view of an Eigen matrix shows its elements, in either order", T, float, double, Eigen::bfloat16,
                   Eigen::half) {
  Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic> columns(3, 5);
  by_rows<T> rows(3, 5);
  Eigen::Matrix<T, 4, 2> fixed;
  CHECK(shows(view_of(columns), columns));
  CHECK(shows(view_of(rows), rows));
  CHECK(shows(view_of(fixed), fixed));
  CHECK(shows(view_of(columns.transpose()), columns.transpose()));
}

TEST_CASE("a view of an Eigen map or block has its strides") {
  std::vector<float> memory(200);
  using strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  Eigen::Map<Eigen::MatrixXf, 0, strides> columns(memory.data(), 3, 5, strides(20, 2));
  Eigen::Map<by_rows<float>, 0, strides> rows(memory.data(), 3, 5, strides(20, 2));
  CHECK(view_of(columns).row_stride == 2);
  CHECK(view_of(columns).col_stride == 20);
  CHECK(view_of(rows).row_stride == 20);
  CHECK(view_of(rows).col_stride == 2);
  CHECK(shows(view_of(columns), columns));
  CHECK(shows(view_of(rows), rows));
  CHECK(shows(view_of(rows.block(1, 2, 2, 3)), rows.block(1, 2, 2, 3)));
  CHECK(shows(view_of(columns.row(1)), columns.row(1)));
  Eigen::MatrixXf m(6, 4);
  Eigen::Ref<Eigen::MatrixXf> part = m.topRows(4);
  CHECK(shows(view_of(part), part));
  CHECK(view_of(part).col_stride == 6);
  Eigen::VectorXf bias(7);
  CHECK(view_of(bias).rows == 7);
  CHECK(view_of(bias).cols == 1);
  CHECK(shows(view_of(bias), bias));
}

TEST_CASE("a view has const elements where Eigen would not write, and ours for Eigen's 16-bit types") {
  using matrix = Eigen::MatrixXf;
  static_assert(std::is_same_v<view_type<matrix&>, matrix_ref<float>>);
  static_assert(std::is_same_v<view_type<const matrix&>, matrix_ref<const float>>);
  static_assert(std::is_same_v<view_type<Eigen::Map<matrix>>, matrix_ref<float>>);
  static_assert(std::is_same_v<view_type<Eigen::Map<const matrix>>, matrix_ref<const float>>);
  static_assert(std::is_same_v<view_type<Eigen::Block<matrix>>, matrix_ref<float>>);
  static_assert(std::is_same_v<view_type<Eigen::Block<const matrix>>, matrix_ref<const float>>);
  static_assert(std::is_same_v<view_type<Eigen::Ref<const matrix>>, matrix_ref<const float>>);
  static_assert(std::is_same_v<view_type<Eigen::MatrixXd&>, matrix_ref<double>>);
  static_assert(std::is_same_v<view_type<const by_rows<Eigen::bfloat16>&>, matrix_ref<const bfloat16>>);
  static_assert(std::is_same_v<view_type<by_rows<Eigen::half>&>, matrix_ref<float16>>);
}

TEST_CASE("there is no view of what has no memory, or whose memory would be gone") {
  using matrix = Eigen::MatrixXf;
  static_assert(viewable<matrix&> && viewable<const matrix&> && viewable<Eigen::Block<matrix>>);
  static_assert(!viewable<matrix> && !viewable<const matrix>);
  static_assert(!viewable<decltype(std::declval<matrix&>() + std::declval<matrix&>())>);
  static_assert(!viewable<Eigen::MatrixXi&>);
}
