// What is printed about the plan of a model on a number of ranks.
#ifndef NORMUON_EXAMPLES_PLAN_TABLE_HPP
#define NORMUON_EXAMPLES_PLAN_TABLE_HPP

#include <fmt/format.h>

#include <numeric>

#include "layouts.hpp"
#include "normuon/shards/plan/model.hpp"

namespace plan_example {

struct world {
  int ranks = 1;
  std::vector<sharded_matrix> matrices;
  ownership owners;
  std::vector<bucket> buckets;
  step_model step;
};

inline world plan_world(const std::vector<model_matrix>& model, std::string_view layout, element_type wire, int ranks,
                        const machine_rates& rates, const shard_options& options) {
  world w{ranks, lay_out(model, layout, wire, ranks), {}, {}, {}};
  w.owners = assign_owners(w.matrices, ranks);
  w.buckets = make_buckets(w.matrices, w.owners, options);
  w.step = model_step(w.matrices, w.owners, w.buckets, rates);
  return w;
}

inline double sum_of_loads(const world& w) {
  return std::accumulate(w.owners.load.begin(), w.owners.load.end(), 0.0,
                         [](double sum, std::uint64_t load) { return sum + static_cast<double>(load); });
}

inline int owners_of(const world& w) {
  const auto& r = w.step.ranks;
  return static_cast<int>(std::count_if(r.begin(), r.end(), [](const rank_work& k) { return k.matrices != 0; }));
}

// So many ranks can have the same to do: beyond them the largest matrix takes longest, however the others are spread.
inline int useful_ranks(const world& w) {
  std::uint64_t largest = 1;
  for (const sharded_matrix& a : w.matrices) largest = std::max(largest, exact_cost_of(a));
  return std::max(1, static_cast<int>(std::min(1e9, sum_of_loads(w) / static_cast<double>(largest))));
}

// Time that buckets travel, one after the other.
inline double moving_seconds(const world& w) {
  double moving = 0;
  for (const bucket_seconds& b : w.step.buckets) moving += b.gather + b.scatter;
  return moving;
}

inline std::string header_of(const world& w, std::string_view layout, std::string_view wire) {
  index_t elements = 0;
  for (const sharded_matrix& a : w.matrices) elements += a.elements();
  return fmt::format(
      "{} matrices of {:.4g} million elements, layout {}, {} on the wire; {:.4g} TFLOP of products a step\n\n"
      "{:>6} {:>6} {:>7} {:>6} {:>6} {:>8} {:>8} {:>8} {:>9} {:>8} {:>9} {:>10} {:>9} {:>8}\n",
      w.matrices.size(), static_cast<double>(elements) / 1e6, layout, wire, sum_of_loads(w) * flops_per_cost / 1e12,
      "ranks", "idle", "buckets", "/mean", "/bound", "sent MB", "most MB", "messages", "stages MB", "whole MB",
      "moving ms", "product ms", "serial ms", "piped ms");
}

// One line of the table: what its columns are says the program's help.
inline std::string line_of(const world& w) {
  double sent = 0, most_sent = 0;
  std::uint64_t messages = 0, stages = 0;
  index_t largest = 0;
  for (const rank_work& r : w.step.ranks) {
    const auto bytes = static_cast<double>(std::max(r.sent().bytes(), r.received().bytes()));
    sent += static_cast<double>(r.sent().bytes());
    most_sent = std::max(most_sent, bytes);
    messages = std::max({messages, r.sent().messages, r.received().messages});
    stages = std::max(stages, r.stages);
    largest = std::max(largest, r.largest);
  }
  const auto makespan = static_cast<double>(w.owners.makespan), bound = static_cast<double>(w.owners.lower_bound);
  return fmt::format(
      "{:>6} {:>6} {:>7} {:>6.3f} {:>6.3f} {:>8.4g} {:>8.4g} {:>8} {:>9.4g} {:>8.4g} {:>9.4g} {:>10.4g} {:>9.4g} "
      "{:>8.4g}\n",
      w.ranks, w.ranks - owners_of(w), w.buckets.size(), makespan / sum_of_loads(w) * w.ranks, makespan / bound,
      sent / w.ranks / 1e6, most_sent / 1e6, messages, static_cast<double>(stages) / 1e6,
      static_cast<double>(largest) * 4 / 1e6, moving_seconds(w) * 1e3, w.step.compute * 1e3, w.step.serial * 1e3,
      w.step.piped * 1e3);
}

// What to do where ranks would own nothing, or bytes take longer than products.
inline std::string advice_on(const std::vector<world>& worlds) {
  std::string idle, slow, text;
  double said_mb = 0;
  for (const world& w : worlds) {
    said_mb = std::max(said_mb, static_cast<double>(w.step.said) / 1e6);
    const auto add = [&](std::string& list, std::string_view what) {
      list += fmt::format("{}{}", list.empty() ? "" : ", ", what);
    };
    if (owners_of(w) < w.ranks) add(idle, fmt::format("{} of {}", w.ranks - owners_of(w), w.ranks));
    if (moving_seconds(w) > w.step.compute) add(slow, std::to_string(w.ranks));
  }
  if (!idle.empty())
    text += fmt::format(
        "Ranks that own nothing: {}. One matrix is 1/{} of all products, so more than {} ranks gain little.\n"
        "Shard within groups of so many and replicate between them, or split fused matrices: Q, K and V, or heads.\n",
        idle, useful_ranks(worlds[0]), useful_ranks(worlds[0]));
  if (!slow.empty())
    text += fmt::format(
        "Bytes travel for longer than products take on {} ranks. Smaller groups help, and layouts that hold matrices\n"
        "whole on one rank (owned; flat but for the matrices at its cuts).\n",
        slow);
  if (said_mb >= 1)
    text += fmt::format("What ranks tell each other before a step takes up to {:.4g} MB on each.\n", said_mb);
  return text;
}

inline std::string ranks_of(const world& w) {
  std::string text = fmt::format("{:>6} {:>8} {:>9} {:>11} {:>8} {:>11} {:>8} {:>9}\n", "rank", "matrices", "load/mean",
                                 "sent MB", "messages", "received MB", "messages", "stages MB");
  const double mean = sum_of_loads(w) / w.ranks;
  for (std::size_t r = 0; r < w.step.ranks.size(); ++r) {
    const rank_work& k = w.step.ranks[r];
    text += fmt::format("{:>6} {:>8} {:>9.3f} {:>11.4g} {:>8} {:>11.4g} {:>8} {:>9.4g}\n", r, k.matrices,
                        static_cast<double>(k.load) / mean, static_cast<double>(k.sent().bytes()) / 1e6,
                        k.sent().messages, static_cast<double>(k.received().bytes()) / 1e6, k.received().messages,
                        static_cast<double>(k.stages) / 1e6);
  }
  return text;
}

}  // namespace plan_example

#endif
