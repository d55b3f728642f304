// N ranks in one process, for tests: the order in which they move follows from a seed, time is simulated, and legs can
// be delayed, lost or damaged. It moves bytes, but nobody's job runs faster with it.
#ifndef NORMUON_SHARDS_LOOPBACK_HPP
#define NORMUON_SHARDS_LOOPBACK_HPP

#include <algorithm>
#include <exception>
#include <thread>

#include "normuon/shards/loopback/network.hpp"

namespace normuon {

struct loopback_options {
  std::uint64_t seed = 0;  // of who moves when, and of jitter
  loopback_times times{};
  std::chrono::milliseconds deadline{1000};  // simulated
  std::vector<loopback_fault> faults{};
};

// Thrown by every verb of a rank that loopback::stop_after has stopped. No error of the library's: nobody handles it.
struct loopback_stopped {};

// What the ranks of a run share.
struct loopback_world {
  loopback_world(int size, const loopback_options& options)
      : schedule(size, options.seed),
        network(size, options.times, options.faults),
        ranks(static_cast<std::size_t>(size)),
        deadline(options.deadline) {}

  struct rank_record {
    std::vector<std::byte> pieces[2];  // of its last two gathers: who is done with one may begin the next
    std::size_t gathers = 0;
    loopback_counts counts;
    std::string failure;  // why no verb works any more
  };

  loopback_schedule schedule;
  loopback_network network;
  std::vector<rank_record> ranks;
  std::chrono::microseconds deadline;
};

class loopback {
 public:
  // One that goes away under way takes the engine with it.
  class request {
   public:
    request(request&&) noexcept = default;
    request& operator=(request&& other) noexcept {
      if (this != &other) give_up();
      world_ = std::move(other.world_);
      state_ = std::move(other.state_);
      exchange_ = other.exchange_, send_ = other.send_, receive_ = other.receive_;
      return *this;
    }
    ~request() { give_up(); }

   private:
    friend loopback;
    request(std::shared_ptr<loopback_world> world, int rank, const exchange& e, const void* send, void* receive)
        : world_(std::move(world)),
          state_(std::make_unique<loopback_request>()),
          exchange_(&e),
          send_(static_cast<const std::byte*>(send)),
          receive_(static_cast<std::byte*>(receive)) {
      state_->rank = rank;
    }
    void give_up() noexcept {
      if (!state_ || state_->open == 0) return;
      world_->network.give_up(*state_);
      world_->ranks[static_cast<std::size_t>(state_->rank)].failure = "a request went away before it was complete";
    }

    std::shared_ptr<loopback_world> world_;
    std::unique_ptr<loopback_request> state_;  // the network knows its address
    const exchange* exchange_;
    const std::byte* send_;
    std::byte* receive_;
  };

  loopback(std::shared_ptr<loopback_world> world, int rank)
      : world_(std::move(world)), rank_(rank), deadline_(world_->deadline) {}

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(world_->ranks.size()); }

  void all_gather_small(void* all, std::size_t bytes) {
    begin_verb();
    auto* const to = static_cast<std::byte*>(all);
    const std::size_t mine = static_cast<std::size_t>(rank_), n = self().gathers++;
    self().pieces[n % 2].assign(to + mine * bytes, to + (mine + 1) * bytes);
    ++self().counts.gathers;
    self().counts.gathered_bytes += bytes;
    world_->schedule.announce();
    const auto is_there = [&](const loopback_world::rank_record& r) { return r.gathers > n; };
    wait([&] { return std::all_of(world_->ranks.begin(), world_->ranks.end(), is_there); },
         [&] {
           std::vector<int> late;
           for (int r = 0; r < size(); ++r)
             if (!is_there(world_->ranks[static_cast<std::size_t>(r)])) late.push_back(r);
           return "the gather's piece of rank " + list_of(late);
         });
    for (std::size_t r = 0; r < world_->ranks.size(); ++r) {
      const std::vector<std::byte>& piece = world_->ranks[r].pieces[n % 2];
      if (piece.size() != bytes)
        break_down("expected a piece of " + std::to_string(bytes) + " bytes from rank " + std::to_string(r) + ", got " +
                   std::to_string(piece.size()));
      std::copy(piece.begin(), piece.end(), to + r * bytes);
    }
  }

  request start(const exchange& e, const void* send, void* receive) {
    request r = prepare(e, send, receive);
    restart(r);
    return r;
  }
  request prepare(const exchange& e, const void* send, void* receive) {
    check_exchange(e, rank_, size());
    return {world_, rank_, e, send, receive};
  }
  void restart(request& r) {
    begin_verb();
    for (const leg& l : r.exchange_->receive) world_->network.receive(*r.state_, l, r.receive_ + l.offset);
    for (const leg& l : r.exchange_->send) {
      world_->network.send(world_->schedule, *r.state_, l, r.send_ + l.offset);
      ++self().counts.legs;
      self().counts.bytes += l.bytes;
    }
  }
  bool test(request& r) {
    begin_verb();
    return is_complete(r);
  }
  void finish(request& r) {
    begin_verb();
    wait([&] { return is_complete(r); }, [&] { return "rank " + world_->network.awaited_by(*r.state_); });
  }

  void set_deadline(std::chrono::milliseconds deadline) { deadline_ = deadline; }
  bool abort() {
    world_->network.give_up(rank_);
    if (self().failure.empty()) self().failure = "it was aborted";
    return true;
  }

  // The simulated time, and to let some of it go by, as if this rank computed.
  std::chrono::microseconds now() const { return world_->schedule.now(); }
  void spend(std::chrono::microseconds time) {
    const auto never = [] { return std::chrono::microseconds::max(); };
    world_->schedule.wait(
        rank_, now() + time, [] { return false; }, never);
  }
  // After so many more verbs this rank is dead: those that follow throw loopback_stopped, and peers wait in vain.
  void stop_after(std::size_t verbs) { verbs_left_ = verbs; }

 private:
  loopback_world::rank_record& self() { return world_->ranks[static_cast<std::size_t>(rank_)]; }

  void begin_verb() {
    if (verbs_left_ == 0) throw loopback_stopped();
    if (verbs_left_ != without_end) --verbs_left_;
    if (!self().failure.empty()) fail(error_code::engine, "rank ", rank_, ": the engine has failed: ", self().failure);
    world_->schedule.yield(rank_);
    world_->network.deliver(world_->schedule, rank_);
  }
  [[noreturn]] void break_down(std::string cause) {
    self().failure = std::move(cause);
    fail(error_code::engine, "rank ", rank_, ": ", self().failure);
  }
  bool is_complete(request& r) {
    if (!r.state_->failure.empty()) break_down(r.state_->failure);
    return r.state_->open == 0;
  }
  // Until ready() is true; awaited() says for what, should it not come true in time.
  template <class Ready, class Awaited>
  void wait(Ready ready, Awaited awaited) {
    const auto moves = [&] {
      world_->network.deliver(world_->schedule, rank_);
      return ready();
    };
    const auto next = [&] { return world_->network.next_arrival(rank_); };
    if (!world_->schedule.wait(rank_, now() + deadline_, moves, next))
      break_down("waited " + std::to_string(deadline_.count()) + " us for " + awaited());
  }

  static constexpr std::size_t without_end = static_cast<std::size_t>(-1);

  std::shared_ptr<loopback_world> world_;
  int rank_;
  std::chrono::microseconds deadline_;
  std::size_t verbs_left_ = without_end;
};

static_assert(shard_engine<loopback> && has_prepare<loopback> && has_deadline<loopback> && has_abort<loopback>);

struct loopback_result {
  std::vector<std::exception_ptr> thrown;  // by each rank's body; null where it returned
  std::vector<loopback_counts> counts;
  std::chrono::microseconds time;

  void rethrow_first() const {
    for (const std::exception_ptr& e : thrown)
      if (e) std::rethrow_exception(e);
  }
};

// Calls body(engine) for every rank, each on a thread of its own, and returns when all have returned or thrown. Bodies
// wait for each other in the engine's verbs only. What a body shares with others needs no lock: one moves at a time.
template <class Body>
loopback_result run_loopback(int size, const loopback_options& options, Body&& body) {
  const auto world = std::make_shared<loopback_world>(size, options);
  loopback_result result;
  result.thrown.resize(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      world->schedule.enter(rank);
      try {
        body(loopback(world, rank));
      } catch (...) {
        result.thrown[static_cast<std::size_t>(rank)] = std::current_exception();
      }
      world->schedule.leave(rank);
    });
  for (std::thread& t : threads) t.join();
  for (const loopback_world::rank_record& r : world->ranks) result.counts.push_back(r.counts);
  result.time = world->schedule.now();
  return result;
}

}  // namespace normuon

#endif
