// What a plan costs all ranks: bytes, messages and memory counted, time modelled, before anything runs. Looks at every
// rank, unlike a plan. Standard library only.
#ifndef NORMUON_SHARDS_PLAN_MODEL_HPP
#define NORMUON_SHARDS_PLAN_MODEL_HPP

#include <array>
#include <set>

#include "normuon/shards/plan/legs.hpp"
#include "normuon/shards/step_claim.hpp"

namespace normuon {

// Of one rank.
struct machine_rates {
  double bandwidth = 50e9;  // bytes/s, each way at the same time
  double latency = 3e-6;    // s, of each message
  double flops = 400e12;    // FLOP/s of Newton-Schulz
};

// A multiply-add is two, and the default table has five steps.
inline constexpr double flops_per_cost = 2 * 5;

struct mail {
  std::uint64_t payload = 0, messages = 0;
  std::uint64_t bytes() const { return payload + messages * sizeof(leg_header); }
  void add(const mail& other) { payload += other.payload, messages += other.messages; }
};

// Of one rank in a step.
struct rank_work {
  std::uint64_t load = 0;    // costs of what it owns
  std::size_t matrices = 0;  // that it owns
  index_t largest = 0;       // elements of the largest of them
  mail gather_sent, gather_received, scatter_sent, scatter_received;
  std::uint64_t stages = 0;  // bytes, but for rounding to 64 by each packet

  mail sent() const {
    return {gather_sent.payload + scatter_sent.payload, gather_sent.messages + scatter_sent.messages};
  }
  mail received() const {
    return {gather_received.payload + scatter_received.payload, gather_received.messages + scatter_received.messages};
  }
};

// How long all ranks take for a bucket, one phase after the other.
struct bucket_seconds {
  double gather = 0, compute = 0, scatter = 0;
};

struct step_model {
  std::vector<rank_work> ranks;
  std::vector<bucket_seconds> buckets;
  double at_home = 0;      // s, of the matrices that move nothing
  double compute = 0;      // s, of the rank with the most to compute
  double exchange = 0;     // s, of all gathers one after the other; scatters take as long where nothing is replicated
  double serial = 0;       // s of a step in which nothing overlaps
  double piped = 0;        // s of a step in which a bucket is computed while its neighbours travel
  std::uint64_t said = 0;  // bytes on every rank of what all say before a step
};

// What ranks send and receive in the gather of a bucket, or in its scatter where it is replicated.
struct bucket_mail {
  std::vector<mail> sent, received;
};

inline bucket_mail count_mail(const bucket& b, std::span<const sharded_matrix> matrices, const ownership& owners) {
  const int ranks = static_cast<int>(owners.load.size());
  bucket_mail m{std::vector<mail>(owners.load.size()), std::vector<mail>(owners.load.size())};
  std::vector<int> last_peer(owners.load.size(), -1);
  for (int r = 0; r < ranks; ++r)
    for (const std::size_t i : b.matrices) {
      const sharded_matrix& a = matrices[i];
      const auto owner = static_cast<std::size_t>(owners.owner[i]);
      const index_t held =
          b.replicated ? b.slice_of({0, 0, a.rows, a.cols}).elements() : a.where.held(a.rows, a.cols, r, ranks);
      if (held == 0 || owners.owner[i] == r) continue;
      const mail one{static_cast<std::uint64_t>(held) * size_of(a.wire), last_peer[owner] == r ? 0u : 1u};
      last_peer[owner] = r;
      m.sent[static_cast<std::size_t>(r)].add(one);
      m.received[owner].add(one);
    }
  if (b.replicated) std::swap(m.sent, m.received);  // D alone travels, from the owner
  return m;
}

// Gather, compute and scatter of buckets as the step overlaps them: each phase in order, one bucket in it at a time; a
// bucket is gathered into a stage that was free since the one before the last was computed, and computed into one whose
// scatter is over.
inline double piped_seconds(const std::vector<bucket_seconds>& buckets, double at_home) {
  double gathered[2] = {0, 0}, computed[2] = {0, at_home}, scattered[2] = {0, 0};
  for (const bucket_seconds& b : buckets) {
    const double gather = std::max(gathered[1], computed[0]) + b.gather;
    const double compute = std::max({gather, computed[1], scattered[0]}) + b.compute;
    const double scatter = std::max(compute, scattered[1]) + b.scatter;
    gathered[0] = std::exchange(gathered[1], gather);
    computed[0] = std::exchange(computed[1], compute);
    scattered[0] = std::exchange(scattered[1], scatter);
  }
  return std::max(computed[1], scattered[1]);
}

inline std::size_t count_names(std::span<const sharded_matrix> matrices) {
  std::set<std::string_view> names;
  for (const sharded_matrix& a : matrices) names.insert(a.name);
  return names.size();
}

// Assumes that all ranks wait for the slowest in each phase of a bucket.
inline step_model model_step(std::span<const sharded_matrix> matrices, const ownership& owners,
                             const std::vector<bucket>& buckets, const machine_rates& rates) {
  const std::size_t P = owners.load.size();
  const auto seconds = [&](std::uint64_t cost) { return static_cast<double>(cost) * flops_per_cost / rates.flops; };
  const auto travel = [&](const std::vector<mail>& sent, const std::vector<mail>& received) {
    double slowest = 0;
    for (const std::vector<mail>* side : {&sent, &received})
      for (const mail& m : *side)
        slowest = std::max(slowest, static_cast<double>(m.messages) * rates.latency +
                                        static_cast<double>(m.bytes()) / rates.bandwidth);
    return slowest;
  };
  step_model step;
  step.said = P * bytes_said(count_names(matrices));
  step.ranks.resize(P);
  std::vector<std::uint64_t> home(owners.load);
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    if (owners.owner[i] == no_owner) continue;
    rank_work& w = step.ranks[static_cast<std::size_t>(owners.owner[i])];
    ++w.matrices;
    w.largest = std::max(w.largest, matrices[i].elements());
  }
  std::vector<std::array<std::uint64_t, 4>> stages(P);
  for (const bucket& b : buckets) {
    const bucket_mail there = count_mail(b, matrices, owners);
    std::vector<std::uint64_t> load(P);
    if (b.slice == 0)
      for (const std::size_t i : b.matrices)
        load[static_cast<std::size_t>(owners.owner[i])] += exact_cost_of(matrices[i]);
    for (std::size_t r = 0; r < P; ++r) {
      rank_work& w = step.ranks[r];
      home[r] -= load[r];
      const mail gathered[2] = {b.replicated ? mail{} : there.sent[r], b.replicated ? mail{} : there.received[r]};
      const mail scattered[2] = {b.replicated ? there.sent[r] : gathered[1],
                                 b.replicated ? there.received[r] : gathered[0]};
      w.gather_sent.add(gathered[0]);
      w.gather_received.add(gathered[1]);
      w.scatter_sent.add(scattered[0]);
      w.scatter_received.add(scattered[1]);
      // One copy of what goes to everyone.
      const std::uint64_t copies = b.replicated ? P - 1 : 1;
      const std::uint64_t bytes[4] = {gathered[0].bytes(), gathered[1].bytes(), scattered[0].bytes() / copies,
                                      scattered[1].bytes()};
      for (std::size_t k = 0; k < 4; ++k) stages[r][k] = std::max(stages[r][k], bytes[k]);
    }
    const double moves = travel(there.sent, there.received);
    const double compute = seconds(*std::max_element(load.begin(), load.end()));
    step.buckets.push_back({b.replicated ? 0 : moves, compute, moves});
    step.exchange += step.buckets.back().gather;
    step.serial += step.buckets.back().gather + compute + moves;
  }
  for (std::size_t r = 0; r < P; ++r) {
    step.ranks[r].load = owners.load[r];
    for (const std::uint64_t bytes : stages[r]) step.ranks[r].stages += 2 * bytes;
  }
  step.at_home = seconds(*std::max_element(home.begin(), home.end()));
  step.compute = seconds(owners.makespan);
  step.serial += step.at_home;
  step.piped = piped_seconds(step.buckets, step.at_home);
  return step;
}

}  // namespace normuon

#endif
