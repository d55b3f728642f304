// One value of each rank. Standard library only.
#ifndef NORMUON_SHARDS_GATHERED_HPP
#define NORMUON_SHARDS_GATHERED_HPP

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <vector>

namespace normuon {

// all_gather_small of a shard engine, on memory of the host: gather(all, bytes).
template <class G>
concept gather_from_host = std::invocable<G&, void*, std::size_t>;

// Values of all ranks, in their order.
template <class T, gather_from_host Gather>
std::vector<T> gathered(const T& mine, int rank, int ranks, Gather&& gather) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<T> all(static_cast<std::size_t>(ranks));
  all[static_cast<std::size_t>(rank)] = mine;
  gather(all.data(), sizeof(T));
  return all;
}

}  // namespace normuon

#endif
