// The turns of a loopback's ranks, and their clock. Each rank is a thread, and one of them moves at a time; who is next
// follows from a seed alone, and time is simulated, so a run is the same every time and a deadline costs no waiting.
#ifndef NORMUON_SHARDS_LOOPBACK_SCHEDULE_HPP
#define NORMUON_SHARDS_LOOPBACK_SCHEDULE_HPP

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <random>
#include <vector>

namespace normuon {

class loopback_schedule {
 public:
  using microseconds = std::chrono::microseconds;

  loopback_schedule(int size, std::uint64_t seed)
      : ranks_(static_cast<std::size_t>(size)), missing_(size), random_(seed) {
    runnable_.reserve(ranks_.size());
  }

  // The turn begins when every rank has entered. Between enter and leave a rank moves only while it has the turn.
  void enter(int rank) {
    std::unique_lock lock(mutex_);
    if (--missing_ == 0) give_turn();
    await_turn(rank, lock);
  }
  void leave(int rank) {
    const std::lock_guard lock(mutex_);
    of(rank).state = state::gone;
    ++events_;
    give_turn();
  }

  // Lets others move; a microsecond goes by.
  void yield(int rank) {
    std::unique_lock lock(mutex_);
    now_ += microseconds(1);
    give_turn();
    await_turn(rank, lock);
  }

  // Waits until ready() is true, which is asked while this rank has the turn, or the clock shows `until`; returns what
  // ready() says then. next() is when ready() may change by itself.
  template <class Ready, class Next>
  bool wait(int rank, microseconds until, Ready ready, Next next) {
    while (!ready()) {
      if (now_ >= until) return false;
      std::unique_lock lock(mutex_);
      rank_state& self = of(rank);
      self.state = state::waiting;
      self.wakes = std::min(until, next());
      self.events = events_;
      give_turn();
      await_turn(rank, lock);
      self.state = state::moving;
    }
    return true;
  }

  // Something has happened that another rank may wait for.
  void announce() { ++events_; }

  microseconds now() const { return now_; }
  std::mt19937_64& random() { return random_; }

 private:
  enum class state { moving, waiting, gone };
  struct rank_state {
    loopback_schedule::state state = state::moving;
    microseconds wakes{};      // at the latest
    std::uint64_t events = 0;  // that it knows of
    std::condition_variable turn;
  };

  rank_state& of(int rank) { return ranks_[static_cast<std::size_t>(rank)]; }

  bool can_move(const rank_state& r) const {
    return r.state == state::moving || (r.state == state::waiting && (r.events != events_ || now_ >= r.wakes));
  }

  // To any rank that can move. Where all wait, time goes on until one can.
  void give_turn() {
    for (;;) {
      runnable_.clear();
      microseconds next = microseconds::max();
      for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
        if (can_move(ranks_[rank])) runnable_.push_back(rank);
        else if (ranks_[rank].state == state::waiting) next = std::min(next, ranks_[rank].wakes);
      }
      if (!runnable_.empty() || next == microseconds::max()) break;
      now_ = next;
    }
    turn_ = runnable_.empty() ? nobody : runnable_[random_() % runnable_.size()];
    if (turn_ != nobody) ranks_[turn_].turn.notify_one();
  }
  void await_turn(int rank, std::unique_lock<std::mutex>& lock) {
    of(rank).turn.wait(lock, [&] { return turn_ == static_cast<std::size_t>(rank); });
  }

  static constexpr std::size_t nobody = static_cast<std::size_t>(-1);

  std::mutex mutex_;
  std::vector<rank_state> ranks_;
  std::vector<std::size_t> runnable_;
  std::size_t turn_ = nobody;
  int missing_;
  microseconds now_{};
  std::uint64_t events_ = 0;
  std::mt19937_64 random_;
};

}  // namespace normuon

#endif
