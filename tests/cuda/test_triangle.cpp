// The block triangle of a symmetric result: pure arithmetic, tried on every size up to some hundred.
#include <doctest/doctest.h>

#include <algorithm>

#include "normuon/backends/cuda/triangle.hpp"

using namespace normuon;

namespace {

// How often calls for `matrices` results of n x n write each element.
std::vector<int> writes(const std::vector<triangle_call>& calls, index_t matrices, index_t n) {
  std::vector<int> count(static_cast<std::size_t>(matrices * n * n));
  for (const triangle_call& c : calls)
    for (index_t k = 0; k < c.count; ++k)
      for (index_t i = 0; i < c.rows; ++i)
        for (index_t j = 0; j < c.cols; ++j) {
          const index_t matrix = c.matrix + (c.step == 0 ? k : 0), row = c.row + k * c.step + i,
                        col = c.col + k * c.step + j;
          REQUIRE((matrix < matrices && row < n && col < n));
          ++count[static_cast<std::size_t>((matrix * n + row) * n + col)];
        }
  return count;
}

}  // namespace

TEST_CASE("every element of a lower triangle is computed once, or not at all where its mirror is, whatever the size") {
  for (index_t n = 1; n <= 150; ++n)
    for (const index_t least : {8, 16, 24, 64})
      for (const index_t matrices : {1, 3, 9}) {
        CAPTURE(n);
        CAPTURE(least);
        CAPTURE(matrices);
        const std::vector<int> count = writes(calls_for(lower_triangle(n, least), matrices), matrices, n);
        bool once = true;
        for (index_t b = 0; b < matrices; ++b)
          for (index_t i = 0; i < n; ++i)
            for (index_t j = 0; j < n; ++j) {
              const int written = count[static_cast<std::size_t>((b * n + i) * n + j)];
              once &= j <= i ? written == 1 : written <= 1;
            }
        CHECK(once);
      }
}

TEST_CASE("blocks begin on 16 bytes of any type, and none is smaller than the least, but for the rest at the end") {
  for (index_t n = 1; n <= 600; ++n)
    for (const index_t least : {8, 128}) {
      const std::vector<triangle_part> parts = lower_triangle(n, least);
      for (const triangle_part& p : parts) {
        CHECK((p.row % block_unit == 0 && p.col % block_unit == 0 && p.step % block_unit == 0));
        CHECK((p.rows >= least || parts.size() == 1 || p.cols == n));
      }
    }
}

TEST_CASE("p blocks on the diagonal cost (p + 1) / 2p of the whole product, in log2 p + 1 calls") {
  for (const index_t blocks : {2, 4, 8, 16}) {
    const index_t n = 128 * blocks;
    const std::vector<triangle_part> parts = lower_triangle(n, 128);
    index_t work = 0, levels = 0;
    for (const triangle_part& p : parts) work += p.rows * p.cols * p.count;
    for (index_t b = blocks; b > 1; b /= 2) ++levels;
    CHECK(2 * blocks * work == (blocks + 1) * n * n);
    CHECK(static_cast<index_t>(parts.size()) == levels + 1);
    CHECK(static_cast<index_t>(calls_for(parts, 1).size()) == levels + 1);
    CHECK(static_cast<index_t>(calls_for(parts, 100).size()) == 2 * blocks - 1);
  }
  CHECK(lower_triangle(255, 128).size() == 1);
}

TEST_CASE("the tiles of a lower triangle are counted row by row") {
  index_t part = 0;
  for (index_t row = 0; row < 300; ++row)
    for (index_t col = 0; col <= row; ++col, ++part) {
      const tile_index t = lower_tile(part);
      CHECK((t.row == row && t.col == col));
    }
}
