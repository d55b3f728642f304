// What several ranks settle among themselves to save or load one file: that it is one, which rank digests which tensor,
// and how long they wait for a rank that is busy with it.
#ifndef NORMUON_IO_CHECKPOINT_RANKS_HPP
#define NORMUON_IO_CHECKPOINT_RANKS_HPP

#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>
#include <optional>
#include <queue>
#include <utility>
#include <vector>

#include "normuon/io/checkpoint/reader.hpp"
#include "normuon/optimizer/together.hpp"

namespace normuon {

// The engine's deadline while a file is saved or loaded, when a rank may wait long for a slower one's disk, and the one
// that it has again afterwards. While it is long, a rank that is lost is noticed late.
struct file_deadlines {
  std::chrono::milliseconds during, afterwards;
};

// Sets an engine's deadlines as it comes and goes; does nothing without any, or where the engine has no deadline.
template <shard_engine Engine>
class deadline_for_files {
 public:
  deadline_for_files(Engine& engine, const std::optional<file_deadlines>& deadlines)
      : engine_(engine), deadlines_(deadlines) {
    if (!deadlines_) return;
    for (const std::chrono::milliseconds d : {deadlines_->during, deadlines_->afterwards})
      if (d.count() < 1) fail(error_code::option, "deadlines: expected at least 1 ms, got ", d.count());
    set(deadlines_->during);
  }
  ~deadline_for_files() {
    if (deadlines_) set(deadlines_->afterwards);
  }
  deadline_for_files(const deadline_for_files&) = delete;
  deadline_for_files& operator=(const deadline_for_files&) = delete;

 private:
  void set([[maybe_unused]] std::chrono::milliseconds deadline) {
    if constexpr (has_deadline<Engine>) engine_.set_deadline(deadline);
  }

  Engine& engine_;
  std::optional<file_deadlines> deadlines_;
};

// Throws error_code::file on every rank where not all have opened the same checkpoint. The digest of a header stands
// for the whole file: the header has the digest of every tensor.
template <tensor_backend B, shard_engine Engine>
void require_same_file(B& b, Engine& engine, std::uint64_t header_digest, std::string_view where) {
  const std::vector<std::uint64_t> digests = gathered(b, engine, header_digest);
  const auto other = std::find_if(digests.begin(), digests.end(), [&](auto d) { return d != digests.front(); });
  if (other == digests.end()) return;
  fail(error_code::file, where, ": expected one file on all ranks, but rank 0 has one with the digest ",
       digest_text(digests.front()), ", rank ", other - digests.begin(), " one with ", digest_text(*other));
}

// Which rank digests which tensor: the largest first, each on the rank that has least to read so far. A tensor counts
// as some bytes more than it has, since a small one takes a trip to the disk, too.
inline std::vector<int> digest_shares(const std::vector<placed_tensor>& tensors, int ranks) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto bytes = [&](std::size_t i) { return tensors[i].end - tensors[i].begin; };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return bytes(i) > bytes(j); });
  using loaded_rank = std::pair<std::uint64_t, int>;
  std::priority_queue<loaded_rank, std::vector<loaded_rank>, std::greater<>> least_first;
  for (int r = 0; r < ranks; ++r) least_first.emplace(0, r);
  std::vector<int> shares(tensors.size());
  for (const std::size_t i : order) {
    const auto [load, rank] = least_first.top();
    least_first.pop();
    shares[i] = rank;
    least_first.emplace(load + bytes(i) + file_chunk, rank);
  }
  return shares;
}

// Digests of which each rank has made its share, all of them on every rank.
template <tensor_backend B, shard_engine Engine>
std::vector<std::uint64_t> gathered_digests(B& b, Engine& engine, const std::vector<int>& shares,
                                            std::vector<std::uint64_t> mine) {
  std::vector<std::size_t> counts(static_cast<std::size_t>(engine.size())), places(shares.size());
  for (std::size_t i = 0; i < shares.size(); ++i) places[i] = counts[static_cast<std::size_t>(shares[i])]++;
  const std::size_t most = *std::max_element(counts.begin(), counts.end());
  std::vector<std::uint64_t> all(counts.size() * most);
  const auto gathered = [&](std::size_t i) -> std::uint64_t& {
    return all[static_cast<std::size_t>(shares[i]) * most + places[i]];
  };
  for (std::size_t i = 0; i < shares.size(); ++i)
    if (shares[i] == engine.rank()) gathered(i) = mine[i];
  all_gather_from_host(b, engine, all.data(), most * sizeof(std::uint64_t));
  for (std::size_t i = 0; i < shares.size(); ++i) mine[i] = gathered(i);
  return mine;
}

}  // namespace normuon

#endif
