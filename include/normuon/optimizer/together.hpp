// What ranks do together outside of a step: gathers of the host's own bytes, and acts that succeed on all ranks or fail
// on all of them.
#ifndef NORMUON_OPTIMIZER_TOGETHER_HPP
#define NORMUON_OPTIMIZER_TOGETHER_HPP

#include <cstdint>
#include <cstring>
#include <exception>
#include <vector>

#include "normuon/backend.hpp"
#include "normuon/shards/engine.hpp"
#include "normuon/shards/plan/agreement.hpp"
#include "normuon/shards/step_claim.hpp"

namespace normuon {

// Where an engine's verbs are ordered among what a backend was asked for, the host waits for that, no longer than the
// engine's deadline.
template <shard_engine Engine>
void wait_for_peers(Engine& engine) {
  if constexpr (has_stream<Engine>) engine.wait();
}
template <shard_engine Engine>
void wait_quietly(Engine& engine) noexcept {
  try {
    wait_for_peers(engine);
  } catch (...) {
  }
}
// The same, and for all that was asked of the backend besides.
template <tensor_backend B, shard_engine Engine>
void wait_for(B& b, Engine& engine) {
  wait_for_peers(engine);
  b.sync();
}

// Copies to the host what is in the backend's memory once all that was asked for is done, which the host waits for.
template <tensor_backend B, shard_engine Engine>
void read_now(B& b, Engine& engine, void* to, const void* from, std::size_t bytes) {
  wait_for_peers(engine);  // first, as a copy to memory that is not pinned may wait itself
  b.read(to, from, bytes);
  b.sync();
}

// all_gather_small of an engine on memory of the host, by way of the backend's where that is another. `all`: size()
// pieces of `bytes` bytes.
template <tensor_backend B, shard_engine Engine>
void all_gather_from_host(B& b, Engine& engine, void* all, std::size_t bytes) {
  if (engine.size() == 1) return;
  if constexpr (has_host_memory<B>) {
    engine.all_gather_small(all, bytes);
  } else {
    const auto memory = b.allocate(bytes * static_cast<std::size_t>(engine.size()));
    b.write(memory.data(), all, memory.size());
    engine.all_gather_small(memory.data(), bytes);
    read_now(b, engine, all, memory.data(), memory.size());
  }
}

// One value of each rank, in their order.
template <class T, tensor_backend B, shard_engine Engine>
std::vector<T> gathered(B& b, Engine& engine, const T& mine) {
  return gathered(mine, engine.rank(), engine.size(),
                  [&](void* all, std::size_t bytes) { all_gather_from_host(b, engine, all, bytes); });
}

// Throws the same on every rank where they don't have the same fields `of_what`; see require_agreement.
template <tensor_backend B, shard_engine Engine>
void require_same_on_ranks(B& b, Engine& engine, const std::vector<plan_field>& fields, const char* of_what) {
  require_agreement(
      fields, engine.rank(), engine.size(),
      [&](void* all, std::size_t bytes) { all_gather_from_host(b, engine, all, bytes); }, of_what);
}

// Opens all connections of given exchanges by way of `memory`: a byte to and from each rank.
template <class Memory, shard_engine Engine>
void greet(Engine& engine, const std::vector<exchange>& exchanges, Memory& memory) {
  try {
    open_connections(engine, std::span<const exchange>(exchanges), memory.data(), memory.data() + engine.size());
  } catch (...) {
    if constexpr (has_abort<Engine>)  // what can't be given up may still arrive
      if (!engine.abort()) (void)new auto(std::move(memory));
    throw;
  }
}

// How an act has ended on a rank, as others are told.
struct act_status {
  bool failed = false;
  error_code code = error_code::backend;
  char text[240] = {};
};

inline act_status status_of(const std::exception_ptr& thrown) {
  act_status s;
  const auto failed = [&](error_code code, const char* text) {
    s.failed = true;
    s.code = code;
    std::strncpy(s.text, text, sizeof(s.text) - 1);
  };
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const error& e) {
    failed(e.code(), e.what());
  } catch (const std::exception& e) {
    failed(error_code::backend, e.what());
  } catch (...) {
    failed(error_code::backend, "an exception that is no std::exception");
  }
  return s;
}

// Why a rank can't make a step, as its claim says it; 0 where it can.
inline std::uint64_t code_in_claim(const std::exception_ptr& refusal) {
  return refusal ? in_claim(status_of(refusal).code) : 0;
}

// Ends an act that every rank has tried: returns where all could. Throws on every rank where one could not: where a
// rank could not itself, its own error, also where it can't tell its peers; elsewhere that of the first that could not,
// with its number.
template <tensor_backend B, shard_engine Engine>
void settle_together(B& b, Engine& engine, const std::exception_ptr& mine) {
  std::vector<act_status> all;
  try {
    all = gathered(b, engine, status_of(mine));
  } catch (...) {
    if (!mine) throw;
  }
  if (mine) std::rethrow_exception(mine);
  for (std::size_t r = 0; r < all.size(); ++r)
    if (all[r].failed) fail(all[r].code, "rank ", r, ": ", all[r].text);
}

// Calls act() on every rank; see settle_together.
template <tensor_backend B, shard_engine Engine, class Act>
void act_together(B& b, Engine& engine, Act&& act) {
  std::exception_ptr mine;
  try {
    act();
  } catch (...) {
    mine = std::current_exception();
  }
  settle_together(b, engine, mine);
}

}  // namespace normuon

#endif
