// The shard engine: what moves bytes between the ranks of a job. Five verbs with their laws, then what an engine may
// offer besides, found by `requires`. testing/engine_conformance.hpp is these laws as tests;
// examples/07_custom_engine.hpp is an engine of one's own. Standard library only.
#ifndef NORMUON_SHARDS_ENGINE_HPP
#define NORMUON_SHARDS_ENGINE_HPP

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "normuon/errors.hpp"

namespace normuon {

// Bytes [offset, offset + bytes) of a stage that go to, or come from, a peer: never this rank itself, never none.
struct leg {
  int peer;
  std::size_t offset, bytes;
  friend bool operator==(const leg&, const leg&) = default;
};

// One rank's side of an exchange. What it sends to a peer is in number, order and sizes what that peer receives from
// it: both sides plan alike, so no sizes travel. Sent legs may overlap, received ones don't.
struct exchange {
  std::vector<leg> send, receive;
  friend bool operator==(const exchange&, const exchange&) = default;
};

// The laws.
//
// Order. From one rank to another, legs are a queue: the n-th that the one has sent, counted over all of its exchanges
// in the order in which it started them, is the n-th that the other receives from it. Ranks start their common
// exchanges in one order; a rank without legs may leave an exchange out. Several may be under way.
// Progress. An engine may move bytes only inside its verbs, but then of all requests under way: a rank that waits in
// one verb for a peer does not hold up another. A leg may not be done before its peer has started its own side.
// Waits. No verb waits longer than the engine's deadline for a peer: it throws error_code::engine and names a peer.
// Failure. What arrives in another size than planned, a library's error and a deadline are error_code::engine. A verb
// that has thrown is not the last: all that follow throw too, until the engine goes away.
// Memory. Nothing is allocated once exchanges and gathers repeat.

// rank(), size(): who this process is among how many, always the same.
template <class E>
concept knows_its_rank = requires(E& engine) {
  { engine.rank() } -> std::same_as<int>;
  { engine.size() } -> std::same_as<int>;
};

// all_gather_small(all, bytes): `all` holds size() pieces of `bytes` bytes, in memory of the backend's kind; piece
// rank() is sent to every other rank, and theirs are received. Complete when it returns. All ranks call it in the same
// order among gathers, also with exchanges under way. A step calls it once, at its start, so that all ranks decide
// alike on what is skipped.
template <class E>
concept gathers_small_pieces = requires(E& engine, void* all) { engine.all_gather_small(all, std::size_t{}); };

// start(exchange, send, receive): begins to move the legs, from `send` + their offsets to `receive` + theirs, and
// returns without waiting. Until the request is complete the exchange and both buffers stay where they are, what is
// sent is not written, and what is received is not touched. A request that goes away earlier is given up, and the
// engine has failed: nothing touches its buffers from then on, unless a library can't give up what is half on its way,
// which abort() tells.
template <class E>
concept starts_exchanges =
    std::movable<typename E::request> && requires(E& engine, const exchange& e, const void* send, void* receive) {
      { engine.start(e, send, receive) } -> std::same_as<typename E::request>;
    };

// test(request): moves what can be moved, never waits; true where the request is complete, then and from then on.
template <class E>
concept tests_requests = requires(E& engine, typename E::request& request) {
  { engine.test(request) } -> std::same_as<bool>;
};

// finish(request): waits until the request is complete; at once where it was.
template <class E>
concept finishes_requests = requires(E& engine, typename E::request& request) { engine.finish(request); };

// One thread at a time calls an engine.
template <class E>
concept shard_engine = std::movable<E> && knows_its_rank<E> && gathers_small_pieces<E> && starts_exchanges<E> &&
                       tests_requests<E> && finishes_requests<E>;

// has_prepare: prepare(exchange, send, receive) makes a request that is not under way, which restart(request) starts
// whenever it is complete, again and again: what a library can set up once for a lasting pattern.
template <class E>
concept has_prepare = starts_exchanges<E> && requires(E& engine, typename E::request& request, const exchange& e,
                                                      const void* send, void* receive) {
  { engine.prepare(e, send, receive) } -> std::same_as<typename E::request>;
  engine.restart(request);
};

// has_deadline: set_deadline(d), of at least 1 ms, says how long a verb waits for a peer from now on; throws nothing.
template <class E>
concept has_deadline = requires(E& engine) { engine.set_deadline(std::chrono::milliseconds{}); };

// has_abort: abort() gives up all that is under way on this rank without waiting for peers, and every verb throws from
// then on, with an earlier cause where there was one. True where buffers are free to go; false where something could
// not be given up, so that all buffers of requests that were ever under way have to stay where they are for good. Peers
// notice by their deadline, or earlier.
template <class E>
concept has_abort = requires(E& engine) {
  { engine.abort() } -> std::same_as<bool>;
};

// has_stream: buffers are a device's, and verbs are ordered on stream() as a backend's operations are. start() moves
// what earlier work on the stream wrote; finish() and all_gather_small() let later work on the stream wait, not the
// host. wait(): the host waits until all that was asked on the stream is done, or throws by the deadline.
template <class E>
concept has_stream = requires(E& engine) {
  { engine.stream() } -> std::equality_comparable;
  engine.wait();
};

// An exchange between the same two buffers, once a step. The exchange must outlive it; `engine` is the same at every
// call. has_prepare: set up once.
template <shard_engine E>
class repeated_exchange {
 public:
  repeated_exchange(E& engine, const exchange& e, const void* send, void* receive)
      : exchange_(&e), send_(send), receive_(receive) {
    if constexpr (has_prepare<E>) request_.emplace(engine.prepare(e, send, receive));
  }

  void start(E& engine) {
    if constexpr (has_prepare<E>) engine.restart(*request_);
    else request_.emplace(engine.start(*exchange_, send_, receive_));
    under_way_ = true;
  }
  // True where nothing is under way.
  bool test(E& engine) {
    if (under_way_ && engine.test(*request_)) under_way_ = false;
    return !under_way_;
  }
  void finish(E& engine) {
    if (under_way_) engine.finish(*request_);
    under_way_ = false;
  }

 private:
  const exchange* exchange_;
  const void* send_;
  void* receive_;
  std::optional<typename E::request> request_;
  bool under_way_ = false;
};

// Sends a byte along every path of the exchanges, once each, so that a library which opens connections when they are
// first used does so now. Every rank calls it, with its own side of the same exchanges. `send` and `receive` have
// size() bytes each, in memory of the engine's kind.
template <shard_engine E>
void open_connections(E& engine, std::span<const exchange> exchanges, const void* send, void* receive) {
  std::vector<int> to, from;
  for (const exchange& e : exchanges) {
    for (const leg& l : e.send) to.push_back(l.peer);
    for (const leg& l : e.receive) from.push_back(l.peer);
  }
  exchange first;
  const auto one_byte_each = [](std::vector<int>& peers, std::vector<leg>& legs) {
    std::sort(peers.begin(), peers.end());
    peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
    for (const int peer : peers) legs.push_back({peer, legs.size(), 1});
  };
  one_byte_each(to, first.send);
  one_byte_each(from, first.receive);
  auto request = engine.start(first, send, receive);
  engine.finish(request);
  if constexpr (has_stream<E>) engine.wait();
}
// The same for an engine of the host's memory.
template <shard_engine E>
void open_connections(E& engine, std::span<const exchange> exchanges) {
  std::vector<std::byte> send(static_cast<std::size_t>(engine.size())), receive(send.size());
  open_connections(engine, exchanges, send.data(), receive.data());
}

// Ranks in a message, each once and in order: "1, 4".
inline std::string list_of(std::vector<int> ranks) {
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  std::string list;
  for (const int rank : ranks) list += (list.empty() ? "" : ", ") + std::to_string(rank);
  return list;
}

// Refuses an exchange that breaks its rules, on behalf of an engine: a leg to this rank itself, to one that is not
// there, or of no bytes.
inline void check_exchange(const exchange& e, int rank, int size) {
  for (const std::vector<leg>* legs : {&e.send, &e.receive})
    for (const leg& l : *legs) {
      if (l.peer < 0 || l.peer >= size || l.peer == rank)
        fail(error_code::engine, "expected a peer of 0 to ", size - 1, " other than rank ", rank, " itself, got ",
             l.peer);
      if (l.bytes == 0) fail(error_code::engine, "expected legs of bytes, got an empty one of peer ", l.peer);
    }
}

}  // namespace normuon

#endif
