// The shard engine: what moves bytes between the ranks of a job. Standard library only.
#ifndef NORMUON_SHARDS_ENGINE_HPP
#define NORMUON_SHARDS_ENGINE_HPP

#include <concepts>
#include <cstddef>
#include <vector>

namespace normuon {

// Bytes [offset, offset + bytes) of a stage that go to, or come from, a peer: never this rank itself, never none.
struct leg {
  int peer;
  std::size_t offset, bytes;
  friend bool operator==(const leg&, const leg&) = default;
};

// One rank's side of an exchange. What it sends to a peer is in number, order and sizes what that peer receives from
// it: both sides plan alike, so no sizes travel.
struct exchange {
  std::vector<leg> send, receive;
  friend bool operator==(const exchange&, const exchange&) = default;
};

// rank(), size(): who this process is among how many. all_gather_small(all, bytes): `all` holds size() pieces of
// `bytes` bytes, in memory of the backend's kind; piece rank() is sent to every other rank, and theirs are received. A
// step calls it once, at its start, so that all ranks decide alike on what is skipped.
template <class E>
concept shard_engine = std::movable<E> && requires(E& engine, void* all) {
  { engine.rank() } -> std::same_as<int>;
  { engine.size() } -> std::same_as<int>;
  engine.all_gather_small(all, std::size_t{});
};

}  // namespace normuon

#endif
