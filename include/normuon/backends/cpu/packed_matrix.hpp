// A matrix in the panels of a kernel (tiles/tile.hpp), its sides rounded up to whole panels with zeros: in two forms,
// or in the one of a kernel that makes parts of right factors as it goes. What rounding to 16 bits takes from a
// symmetric matrix may be kept beside it. The memory belongs to others; a matrix is a view, and copies are of the view.
#ifndef NORMUON_BACKENDS_CPU_PACKED_MATRIX_HPP
#define NORMUON_BACKENDS_CPU_PACKED_MATRIX_HPP

#include <type_traits>
#include <utility>

#include "normuon/backends/cpu/tiles/tile.hpp"

namespace normuon {

constexpr index_t round_up(index_t n, index_t to) { return (n + to - 1) / to * to; }

// Calls f for the numbers in the first panels of a tile.
template <tile_kernel K, class F>
void for_each_number(float* tile, index_t panels, F&& f) {
  for (index_t r = 0; r < K::rows; ++r)
    for (index_t c = 0; c < panels * K::width; ++c) f(tile[r * K::columns + c]);
}

// What of a matrix its panels' layout needs to know.
struct packed_shape {
  index_t rows, cols;
  bool symmetric = false;
  bool has_remainder = false;  // symmetric ones only
  bool rounds = false;         // to bfloat16, where cells are floats
};

// A right form, and the same across: of a symmetric matrix they are one, and the remainder has the other's memory.
template <tile_kernel K>
class two_forms {
 public:
  using cell = typename K::cell;

  static constexpr index_t cells_of(const packed_shape& s) {
    return 2 * round_up(s.rows, K::width) * round_up(s.cols, K::width) / K::depth;
  }
  two_forms(cell* memory, const packed_shape& s)
      : rows(round_up(s.rows, K::width)),
        cols(round_up(s.cols, K::width)),
        right_(memory),
        across_(s.symmetric ? memory : memory + cells_of(s) / 2),
        remainder_(s.has_remainder ? memory + cells_of(s) / 2 : nullptr),
        rounds_(s.rounds) {}

  two_forms transposed() const { return {cols, rows, across_, right_, nullptr, rounds_}; }
  two_forms without_remainder() const { return {rows, cols, right_, across_, nullptr, rounds_}; }

  index_t cells_across() const { return cols / K::depth; }
  index_t right_stride() const { return rows / K::depth * K::width; }  // from one right panel to the next

  // As a left factor: from row i and cell q on.
  const cell* left_factor_at(index_t i, index_t q) const { return across_at(i, 0) + q * K::width; }
  // As a right factor: from column j and cell q on. A matrix in one form would make n cells, in `made`.
  const cell* right_factor_at(cell*, index_t j, index_t q, index_t) const { return right_at(0, j) + q * K::width; }

  float number(index_t i, index_t j) const { return K::number(*right_at(i, j), i); }
  void set_diagonal(index_t k, float x) const {
    if (rounds_) x = static_cast<float>(bfloat16(x));
    *right_at(k, k) = K::with_number(*right_at(k, k), k, x);
    *across_at(k, k) = K::with_number(*across_at(k, k), k, x);
  }

  // tile <- alpha tile + beta times the matrix with its remainder, from row i and column j on.
  void add_to(float* tile, float alpha, float beta, index_t i, index_t j, index_t panels) const {
    K::combine(tile, alpha, beta, right_at(i, j), right_stride(), panels);
    if (remainder_) K::combine(tile, 1, beta, remainder_at(i, j), right_stride(), panels);
  }

  // That of a symmetric matrix stands for its mirror image, too, but for its remainder.
  void store(float* tile, index_t i, index_t j, index_t panels) const {
    if (remainder_) K::pack_remainder(remainder_at(i, j), right_stride(), tile, panels);
    if (rounds_) for_each_number<K>(tile, panels, [](float& x) { x = static_cast<float>(bfloat16(x)); });
    K::pack_right(right_at(i, j), right_stride(), tile, panels);
    K::pack_across(across_at(i, j), tile, panels);
  }

  index_t rows, cols;  // multiples of K::width

 private:
  two_forms(index_t m, index_t n, cell* right, cell* across, cell* remainder, bool rounds)
      : rows(m), cols(n), right_(right), across_(across), remainder_(remainder), rounds_(rounds) {}

  cell* right_at(index_t i, index_t j) const {
    return right_ + j / K::width * right_stride() + i / K::depth * K::width + j % K::width;
  }
  cell* across_at(index_t i, index_t j) const {
    return across_ + (i / K::width * cells_across() + j / K::depth) * K::width + i % K::width;
  }
  cell* remainder_at(index_t i, index_t j) const { return remainder_ + (right_at(i, j) - right_); }

  cell *right_, *across_, *remainder_;
  bool rounds_;
};

// A kernel's own form, which of a symmetric matrix holds both triangles, and its remainder behind it. A transposed view
// of another one is a right factor, or is stored to.
template <tile_kernel K>
class one_form {
  static_assert(K::rows == K::width && K::columns == K::width, "a tile's transpose is a tile");

 public:
  using cell = typename K::cell;

  static constexpr index_t cells_of(const packed_shape& s) {
    const index_t form = round_up(s.rows, K::width) * round_up(s.cols, K::width) / K::depth;
    return s.rows == s.cols ? 2 * form : form;  // square ones may become symmetric
  }
  one_form(cell* memory, const packed_shape& s)
      : rows(round_up(s.rows, K::width)),
        cols(round_up(s.cols, K::width)),
        own_(memory),
        remainder_(s.has_remainder ? memory + cells_of(s) / 2 : nullptr),
        symmetric_(s.symmetric) {}

  one_form transposed() const {
    one_form t = without_remainder();
    std::swap(t.rows, t.cols);
    t.is_transposed_ = !symmetric_ && !is_transposed_;
    return t;
  }
  one_form without_remainder() const {
    one_form m = *this;
    m.remainder_ = nullptr;
    return m;
  }

  index_t cells_across() const { return cols / K::depth; }
  index_t right_stride() const { return 0; }  // a tile is one panel

  const cell* left_factor_at(index_t i, index_t q) const { return own_ + i * cells_across() + q * K::width; }
  const cell* right_factor_at(cell* made, index_t j, index_t q, index_t n) const {
    constexpr index_t of_tile = K::rows / K::depth;
    for (index_t k = q; k < q + n; k += of_tile)
      if (is_transposed_) K::to_across(made + (k - q) * K::width, at(own_, k * K::depth, j));
      else K::to_right(made + (k - q) * K::width, at(own_, k * K::depth, j));
    return made;
  }

  float number(index_t i, index_t j) const { return K::number(*number_at(i, j), j); }
  void set_diagonal(index_t k, float x) const { *number_at(k, k) = K::with_number(*number_at(k, k), k, x); }

  void add_to(float* tile, float alpha, float beta, index_t i, index_t j, index_t) const {
    K::combine(tile, alpha, beta, at(own_, i, j));
    if (remainder_) K::combine(tile, 1, beta, at(remainder_, i, j));
  }

  void store(float* tile, index_t i, index_t j, index_t) const {
    if (remainder_) K::pack_remainder(at(remainder_, i, j), tile);
    if (is_transposed_) {
      alignas(64) cell own[K::rows * K::columns / K::depth];
      K::pack(own, tile);
      K::transpose(at(own_, i, j), own);
    } else {
      K::pack(at(own_, i, j), tile);
      if (symmetric_ && i != j) K::transpose(at(own_, j, i), at(own_, i, j));
    }
  }

  index_t rows, cols;  // multiples of K::width

 private:
  // Where the cells of a tile lie: of the view's rows i and columns j on.
  cell* at(cell* form, index_t i, index_t j) const {
    return is_transposed_ ? form + (j * rows + i * K::width) / K::depth : form + (i * cols + j * K::width) / K::depth;
  }
  cell* number_at(index_t i, index_t j) const {
    const index_t r = i % K::rows, c = j % K::columns;
    return at(own_, i - r, j - c) + (r * K::columns + c) / K::depth;
  }

  cell *own_, *remainder_;
  bool symmetric_, is_transposed_ = false;
};

template <tile_kernel K>
using packed_matrix = std::conditional_t<K::has_one_form, one_form<K>, two_forms<K>>;

}  // namespace normuon

#endif
