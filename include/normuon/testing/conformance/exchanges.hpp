// Random exchanges for the laws of an engine, and the bytes that they move. All ranks make the same exchanges from the
// same seed, so each knows what it has to receive without being told. Needs no doctest.
#ifndef NORMUON_TESTING_CONFORMANCE_EXCHANGES_HPP
#define NORMUON_TESTING_CONFORMANCE_EXCHANGES_HPP

#include <cstdint>
#include <random>
#include <sstream>
#include <stdexcept>

#include "normuon/shards/engine.hpp"

namespace normuon::testing {

// A law was broken. No assertion of doctest's: ranks may be threads or processes, which doctest does not look into.
struct broken_law : std::logic_error {
  using std::logic_error::logic_error;
};

template <class E, class... Parts>
void require(bool holds, E& engine, const Parts&... what) {
  if (holds) return;
  std::ostringstream text;
  text << "rank " << engine.rank() << " of " << engine.size() << ": ";
  (text << ... << what);
  throw broken_law(text.str());
}

// Where exchanges lie: in the host's memory, of exactly so many bytes. Engines of a device's memory bring their own.
class host_stage {
 public:
  explicit host_stage(const std::vector<std::byte>& bytes) : bytes_(bytes) {}
  void* data() { return bytes_.data(); }
  void write(const std::vector<std::byte>& bytes) { std::copy(bytes.begin(), bytes.end(), bytes_.begin()); }
  std::vector<std::byte> read() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

// A leg as seen from outside, and the number it has between its two ranks.
struct planned_leg {
  int from, to;
  std::size_t bytes;
};

// One rank's side of planned legs. What lies between legs belongs to nobody.
template <class Stage>
class side_of_exchange {
 public:
  template <class E>
  side_of_exchange(E& engine, const std::vector<planned_leg>& legs, std::uint64_t seed) : rank_(engine.rank()) {
    std::mt19937_64 random(seed ^ (0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(rank_ + 1)));
    // Received legs lie in another order than they come in.
    std::vector<std::size_t> received;
    for (std::size_t i = 0; i < legs.size(); ++i) {
      if (legs[i].to == rank_) received.push_back(i);
      if (legs[i].from != rank_) continue;
      sent_bytes_ += random() % 40;
      plan.send.push_back({legs[i].to, sent_bytes_, legs[i].bytes});
      sent_bytes_ += legs[i].bytes;
    }
    std::vector<std::size_t> places = received, offsets(legs.size());
    std::shuffle(places.begin(), places.end(), random);
    for (const std::size_t i : places) {
      received_bytes_ += random() % 40;
      offsets[i] = received_bytes_;
      received_bytes_ += legs[i].bytes;
    }
    for (const std::size_t i : received) plan.receive.push_back({legs[i].from, offsets[i], legs[i].bytes});
    received_bytes_ += 16;
    send.emplace(std::vector<std::byte>(sent_bytes_));
    receive.emplace(std::vector<std::byte>(received_bytes_, untouched));
  }

  // New content for step `step`: a byte follows from its leg, its place in it and the step.
  void fill(std::uint64_t step) {
    given_.assign(sent_bytes_, untouched);
    write_legs(plan.send, step, given_, true);
    send->write(given_);
    receive->write(std::vector<std::byte>(received_bytes_, untouched));
  }

  // Everything that was planned is there, nothing else was written.
  template <class E>
  void check(E& engine, std::uint64_t step) {
    if constexpr (has_stream<E>) engine.wait();
    std::vector<std::byte> expected(received_bytes_, untouched);
    write_legs(plan.receive, step, expected, false);
    const std::vector<std::byte> got = receive->read();
    for (std::size_t k = 0; k < got.size(); ++k)
      require(got[k] == expected[k], engine, "step ", step, ": expected byte ", k, " of ", got.size(), " to be ",
              static_cast<int>(expected[k]), ", got ", static_cast<int>(got[k]));
    require(send->read() == given_, engine, "step ", step, ": what is sent was written to");
  }

  exchange plan;
  std::optional<Stage> send, receive;

 private:
  static constexpr std::byte untouched{0x5a};

  void write_legs(const std::vector<leg>& legs, std::uint64_t step, std::vector<std::byte>& to, bool sending) const {
    std::vector<std::uint64_t> count(4096);  // of legs so far, of each peer
    for (const leg& l : legs) {
      const auto peer = static_cast<std::uint64_t>(l.peer), self = static_cast<std::uint64_t>(rank_);
      const std::uint64_t path = sending ? self * 8191 + peer : peer * 8191 + self;
      const std::uint64_t start = (path * 65537 + count[static_cast<std::size_t>(l.peer)]++) * 257 + step * 31;
      for (std::size_t k = 0; k < l.bytes; ++k)
        to[l.offset + k] = static_cast<std::byte>((start + k * (k / 251 + 3)) * 0x9e3779b97f4a7c15u >> 56);
    }
  }

  int rank_;
  std::size_t sent_bytes_ = 0, received_bytes_ = 0;
  std::vector<std::byte> given_;
};

// Some pairs of ranks, a few legs each, from one byte to `most`, short ones more often.
inline std::vector<planned_leg> random_legs(int size, std::uint64_t seed, std::size_t most) {
  std::mt19937_64 random(seed);
  std::vector<planned_leg> legs;
  for (int from = 0; from < size; ++from)
    for (int to = 0; to < size; ++to)
      for (std::uint64_t n = random() % 5; from != to && n > 1; --n)
        legs.push_back({from, to, std::max<std::size_t>(1, most >> random() % 20) - (most > 1 ? random() % 2 : 0)});
  std::erase_if(legs, [](const planned_leg& l) { return l.bytes == 0; });
  return legs;
}

}  // namespace normuon::testing

#endif
