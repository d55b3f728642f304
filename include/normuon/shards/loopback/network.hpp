// What lies between a loopback's ranks: a queue of legs for each pair, with delays and faults. A leg's bytes stay where
// the sender has them until the receiver takes them, so nothing is buffered that another engine might not buffer.
// Only the rank that has the turn touches it.
#ifndef NORMUON_SHARDS_LOOPBACK_NETWORK_HPP
#define NORMUON_SHARDS_LOOPBACK_NETWORK_HPP

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "normuon/shards/engine.hpp"
#include "normuon/shards/loopback/schedule.hpp"

namespace normuon {

enum class loopback_fault_kind {
  drop,       // never arrives; the next one takes its place
  truncate,   // arrives without its last byte
  duplicate,  // arrives twice
  reorder,    // arrives behind the next one
  corrupt,    // one of its bits arrives flipped
  delay,      // arrives an hour late
};

// What happens to the n-th leg from one rank to another, from 0.
struct loopback_fault {
  loopback_fault_kind kind;
  int from, to;
  std::size_t n = 0;
};

// What a rank has sent. A gather counts as one of `gathers`, and what it sends to each peer as `gathered_bytes`.
struct loopback_counts {
  std::size_t legs = 0, bytes = 0, gathers = 0, gathered_bytes = 0;
};

// Of one exchange on one rank: how many of its legs are not there yet, and what went wrong.
struct loopback_request {
  int rank = 0;
  std::size_t open = 0;
  std::string failure;
};

struct loopback_times {
  std::chrono::microseconds latency{}, jitter{};  // of each leg; jitter is added up to so much, at random
  std::size_t bytes_per_microsecond = 0;          // of each leg; 0: any
};

class loopback_network {
 public:
  using microseconds = std::chrono::microseconds;

  loopback_network(int size, const loopback_times& times, std::vector<loopback_fault> faults)
      : size_(static_cast<std::size_t>(size)), times_(times), faults_(std::move(faults)), pairs_(size_ * size_) {}

  void send(loopback_schedule& schedule, loopback_request& request, const leg& l, const std::byte* data) {
    path& p = used(between(request.rank, l.peer));
    message m{&request, data, l.bytes, sum_of(data, l.bytes), arrival(schedule, p, l.bytes), false, {}};
    ++request.open;
    const std::size_t n = p.sent++;
    bool twice = false, swapped = false;
    for (const loopback_fault& f : faults_)
      if (f.from == request.rank && f.to == l.peer && f.n == n) {
        if (f.kind == loopback_fault_kind::drop) return sent(schedule, m);
        if (f.kind == loopback_fault_kind::truncate) --m.bytes, m.altered = true;
        if (f.kind == loopback_fault_kind::corrupt) m.altered = true;
        if (f.kind == loopback_fault_kind::delay) m.arrives += std::chrono::hours(1);
        twice |= f.kind == loopback_fault_kind::duplicate;
        swapped |= f.kind == loopback_fault_kind::reorder;
      }
    if (twice) {  // the first of the two is taken from a copy, for the sender may be done before it is
      message copy = m;
      copy.request = nullptr;
      copy.copy.assign(data, data + m.bytes);
      p.messages.push_back(std::move(copy));
    }
    p.messages.push_back(std::move(m));
    if (p.swap_next && p.messages.size() > 1) std::swap(p.messages.back(), p.messages[p.messages.size() - 2]);
    p.swap_next = swapped;
    schedule.announce();
  }

  // What is received is overwritten at once: who looks at it too early sees that.
  void receive(loopback_request& request, const leg& l, std::byte* data) {
    std::memset(data, 0xa5, l.bytes);
    ++request.open;
    used(between(l.peer, request.rank)).posted.push_back({&request, data, l.bytes});
  }

  // Takes what has arrived at a rank for the legs that it has posted.
  void deliver(loopback_schedule& schedule, int rank) {
    for (std::size_t from = 0; from < size_; ++from) {
      path& p = between(static_cast<int>(from), rank);
      while (p.next_is_there() && !p.posted.empty() && p.messages[0].arrives <= schedule.now()) {
        take(schedule, p.messages[0], p.posted[0], static_cast<int>(from));
        p.messages.erase(p.messages.begin());
        p.posted.erase(p.posted.begin());
      }
    }
  }

  // When the next leg arrives that a rank has posted.
  microseconds next_arrival(int rank) {
    microseconds next = microseconds::max();
    for (std::size_t from = 0; from < size_; ++from) {
      const path& p = between(static_cast<int>(from), rank);
      if (p.next_is_there() && !p.posted.empty()) next = std::min(next, p.messages[0].arrives);
    }
    return next;
  }

  // The peers that a rank's requests wait for, in words.
  std::string awaited_by(const loopback_request& request) {
    std::vector<int> peers;
    for (std::size_t peer = 0; peer < size_; ++peer) {
      const auto of_request = [&](const auto& part) { return part.request == &request; };
      const path &in = between(static_cast<int>(peer), request.rank),
                 &out = between(request.rank, static_cast<int>(peer));
      if (std::any_of(in.posted.begin(), in.posted.end(), of_request) ||
          std::any_of(out.messages.begin(), out.messages.end(), of_request))
        peers.push_back(static_cast<int>(peer));
    }
    return list_of(peers);
  }

  // Forgets the legs of a request, or of all requests of a rank: their buffers may go away.
  void give_up(const loopback_request& request) {
    forget([&](const auto& part) { return part.request == &request; });
  }
  void give_up(int rank) {
    forget([&](const auto& part) { return part.request && part.request->rank == rank; });
  }

 private:
  struct message {
    loopback_request* request;  // of the sender; none of a copy
    const std::byte* data;
    std::size_t bytes;
    std::uint64_t sum;
    microseconds arrives;
    bool altered;
    std::vector<std::byte> copy;
  };
  struct posted_leg {
    loopback_request* request;
    std::byte* data;
    std::size_t bytes;
  };
  struct path {
    std::vector<message> messages;  // vectors, for a deque that is filled and emptied allocates for ever
    std::vector<posted_leg> posted;
    std::size_t sent = 0;
    microseconds last_arrival{};
    bool swap_next = false;  // the last one waits for the next, which overtakes it

    bool next_is_there() const { return messages.size() > (swap_next ? 1u : 0u); }
  };

  path& between(int from, int to) {
    return pairs_[static_cast<std::size_t>(from) * size_ + static_cast<std::size_t>(to)];
  }

  template <class Which>
  void forget(Which which) {
    for (path& p : pairs_) {
      std::erase_if(p.messages, which);
      std::erase_if(p.posted, which);
    }
  }

  // How deep a queue gets follows from who moves when: room at once for what steps need, so that they allocate nothing.
  static path& used(path& p) {
    p.messages.reserve(32);
    p.posted.reserve(32);
    return p;
  }

  microseconds arrival(loopback_schedule& schedule, path& p, std::size_t bytes) {
    microseconds after = times_.latency;
    if (times_.bytes_per_microsecond != 0)
      after += microseconds(static_cast<std::int64_t>(bytes / times_.bytes_per_microsecond));
    if (times_.jitter.count() != 0)
      after += microseconds(
          static_cast<std::int64_t>(schedule.random()() % (static_cast<std::uint64_t>(times_.jitter.count()) + 1)));
    p.last_arrival = std::max(p.last_arrival, schedule.now() + after);
    return p.last_arrival;
  }

  // FNV-1a, eight bytes at a time: of what the sender must leave as it is (isthe.com/chongo/tech/comp/fnv).
  static std::uint64_t sum_of(const std::byte* data, std::size_t bytes) {
    std::uint64_t sum = 0xcbf29ce484222325u;
    for (std::size_t k = 0; k < bytes; k += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, data + k, std::min<std::size_t>(8, bytes - k));
      sum = (sum ^ word) * 0x100000001b3u;
    }
    return sum;
  }

  void sent(loopback_schedule& schedule, const message& m) {
    if (!m.request) return;
    --m.request->open;
    schedule.announce();
  }

  void take(loopback_schedule& schedule, const message& m, const posted_leg& l, int from) {
    const std::byte* const data = m.request ? m.data : m.copy.data();
    const auto complain = [&](std::string what) {
      if (l.request->failure.empty()) l.request->failure = std::move(what);
    };
    if (m.bytes != l.bytes) {
      complain("expected a leg of " + std::to_string(l.bytes) + " bytes from rank " + std::to_string(from) + ", got " +
               std::to_string(m.bytes));
    } else {
      if (!m.altered && sum_of(data, m.bytes) != m.sum)
        complain("rank " + std::to_string(from) + " wrote into a leg of " + std::to_string(m.bytes) +
                 " bytes while it was under way");
      std::memcpy(l.data, data, m.bytes);
      if (m.altered) l.data[l.bytes / 2] ^= std::byte{0x10};
    }
    --l.request->open;
    sent(schedule, m);
  }

  std::size_t size_;
  loopback_times times_;
  std::vector<loopback_fault> faults_;
  std::vector<path> pairs_;
};

}  // namespace normuon

#endif
