// How runs of matrices are divided between workers: one each, or all on one. Pure arithmetic, standard library only.
#ifndef NORMUON_OPTIMIZER_SHARING_HPP
#define NORMUON_OPTIMIZER_SHARING_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace normuon {

// What a matrix costs, to be compared: Newton-Schulz the multiply-adds of one plain step without symmetric refinements,
// s^2 (2 l + s) with short side s and long side l, whatever its form; an element of AdamW, which memory bounds, as many
// as take as long.
inline double cost_of(bool matrix_rule, std::int64_t rows, std::int64_t cols) {
  const auto s = static_cast<double>(std::min(rows, cols)), l = static_cast<double>(std::max(rows, cols));
  return matrix_rule ? s * s * (2 * l + s) : 50 * s * l;
}

// What a run that all workers do together costs more than a fair share of it: they meet after every product.
inline constexpr double price_of_sharing = 1.05;

// How many of the first runs all workers should do together, one after the other, before they take the rest one by one.
// costs: in the order in which runs are begun. shareable: how many of the first can be done so. The number that ends
// earliest if a free worker takes the next run; of equals, the least.
inline std::size_t runs_to_share(const std::vector<double>& costs, std::size_t shareable, int workers) {
  if (workers < 2) return 0;
  std::size_t best = 0;
  double earliest = 0, before = 0;
  // Beyond two rounds there is nothing left that sharing could level out.
  for (std::size_t shared = 0; shared <= std::min(shareable, 2 * static_cast<std::size_t>(workers)); ++shared) {
    if (shared > 0) before += costs[shared - 1] / workers * price_of_sharing;
    std::vector<double> ends(static_cast<std::size_t>(workers), before);
    for (std::size_t i = shared; i < costs.size(); ++i) *std::min_element(ends.begin(), ends.end()) += costs[i];
    const double end = *std::max_element(ends.begin(), ends.end());
    if (shared == 0 || end < earliest) best = shared, earliest = end;
  }
  return best;
}

}  // namespace normuon

#endif
