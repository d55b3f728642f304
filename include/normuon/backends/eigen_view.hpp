// Views of Eigen's matrices. `normuon/backends/eigen.hpp` brings them; with another backend include this.
#ifndef NORMUON_BACKENDS_EIGEN_VIEW_HPP
#define NORMUON_BACKENDS_EIGEN_VIEW_HPP

#include <Eigen/Core>

#include "normuon/matrix_ref.hpp"

namespace normuon {

// Our type for the elements of Eigen's: the 16-bit ones have the layout of ours.
template <class Scalar>
using element_for_eigen = std::conditional_t<std::is_same_v<Scalar, Eigen::bfloat16>, bfloat16,
                                             std::conditional_t<std::is_same_v<Scalar, Eigen::half>, float16, Scalar>>;

// What Eigen keeps in memory: a matrix, map, block or transpose, of which M may be const or a reference.
template <class M>
concept eigen_in_memory = requires(M& m) {
  requires element<element_for_eigen<typename std::remove_cvref_t<M>::Scalar>>;
  m.data();
  m.rowStride();
  m.colStride();
};

// A view of rows x cols elements as they lie, in any order and with any strides; where m or what it shows is const, of
// const elements. A temporary matrix is refused, as its memory would be gone; a temporary map or block is not. Of a
// weight stored (in, out) `view_of(m.transpose())` has a row per neuron. A column vector of n is n x 1.
template <eigen_in_memory M>
  requires(std::is_lvalue_reference_v<M> ||
           !std::is_base_of_v<Eigen::PlainObjectBase<std::remove_cvref_t<M>>, std::remove_cvref_t<M>>)
auto view_of(M&& m) {
  using stored = std::remove_pointer_t<decltype(m.data())>;
  using shown = element_for_eigen<std::remove_const_t<stored>>;
  using element = std::conditional_t<std::is_const_v<stored>, const shown, shown>;
  return matrix_ref<element>{reinterpret_cast<element*>(m.data()), m.rows(), m.cols(), m.rowStride(), m.colStride()};
}

}  // namespace normuon

#endif
