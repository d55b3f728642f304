// MULTIFIT: the least capacity at which costs fit into bins, the heaviest first and each into the first bin with room
// (Coffman, Garey and Johnson, doi:10.1137/0207001). Integers only. Standard library only.
#ifndef NORMUON_SHARDS_PLAN_FIRST_FIT_HPP
#define NORMUON_SHARDS_PLAN_FIRST_FIT_HPP

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace normuon {

// The room of bins, as a tree of maxima over them: the first with enough is found in logarithmic time.
class bins {
 public:
  explicit bins(std::size_t count) : leaves_(std::bit_ceil(count)), most_(2 * leaves_) {}

  void set_room(std::size_t bin, std::uint64_t room) {
    std::size_t node = leaves_ + bin;
    most_[node] = room;
    while ((node /= 2) != 0) most_[node] = std::max(most_[2 * node], most_[2 * node + 1]);
  }
  // Takes the cost off the first bin that has room for it, and returns the bin; -1 where none has.
  int take(std::uint64_t cost) {
    if (most_[1] < cost) return -1;
    std::size_t node = 1;
    while (node < leaves_) node = 2 * node + (most_[2 * node] < cost ? 1 : 0);
    set_room(node - leaves_, most_[node] - cost);
    return static_cast<int>(node - leaves_);
  }

 private:
  std::size_t leaves_;
  std::vector<std::uint64_t> most_;
};

// The bin of each cost such that all are filled to less than `capacity`, and as little as bisection from `least` on
// finds, down to a 1000th. Empty where it finds nothing. Costs descend; `filled` is what is in the bins already,
// nowhere more than `least`.
inline std::vector<int> multifit(std::span<const std::uint64_t> costs, std::span<const std::uint64_t> filled,
                                 std::uint64_t least, std::uint64_t capacity) {
  std::vector<int> best, tried(costs.size());
  const auto fits = [&](std::uint64_t level) {
    bins open(filled.size());
    for (std::size_t b = 0; b < filled.size(); ++b) open.set_room(b, level - filled[b]);
    for (std::size_t i = 0; i < costs.size(); ++i)
      if ((tried[i] = open.take(costs[i])) < 0) return false;
    return true;
  };
  while (capacity > least + least / 1000) {
    const std::uint64_t level = least + (capacity - 1 - least) / 2;
    if (fits(level)) best = tried, capacity = level;
    else least = level + 1;
  }
  return best;
}

}  // namespace normuon

#endif
