// The shard engine: what moves bytes between the ranks of a job. Standard library only.
#ifndef NORMUON_SHARDS_ENGINE_HPP
#define NORMUON_SHARDS_ENGINE_HPP

#include <concepts>
#include <cstddef>

namespace normuon {

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
