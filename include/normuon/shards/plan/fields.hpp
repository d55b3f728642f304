// What all ranks must agree on, as a list of named texts, and its digests. Standard library only.
#ifndef NORMUON_SHARDS_PLAN_FIELDS_HPP
#define NORMUON_SHARDS_PLAN_FIELDS_HPP

#include "normuon/shards/plan/buckets.hpp"

namespace normuon {

// A rule with its options, a kernel path, a shape: anything in which ranks would differ by mistake.
struct plan_field {
  std::string name, value;
  friend bool operator==(const plan_field&, const plan_field&) = default;
};

inline std::uint64_t digest_of(const plan_field& f) { return digest_with(digest_of(f.name), digest_of(f.value)); }

// All fields of a plan: the caller's first, since a difference in those explains others.
inline std::vector<plan_field> fields_of(std::span<const sharded_matrix> matrices, int ranks,
                                         const shard_options& options, const std::vector<plan_field>& others) {
  std::vector<plan_field> fields = others;
  fields.reserve(fields.size() + 3 + 5 * matrices.size());
  fields.push_back({"ranks", std::to_string(ranks)});
  fields.push_back({"staging_limit", std::to_string(options.staging_limit)});
  fields.push_back({"least_buckets", std::to_string(options.least_buckets)});
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    const sharded_matrix& a = matrices[i];
    const std::string name = a.text();
    fields.push_back({"name of matrix " + std::to_string(i), name});
    fields.push_back({"shape of '" + name + "'", std::to_string(a.rows) + " x " + std::to_string(a.cols)});
    fields.push_back({"layout of '" + name + "'", a.where.text()});
    fields.push_back({"wire of '" + name + "'", a.matrix_rule ? std::string(name_of(a.wire)) : "none"});
    if (a.owner != no_owner) fields.push_back({"owner of '" + name + "'", std::to_string(a.owner)});
  }
  return fields;
}

// Digests of the first 0, 1, ... all fields; the last is that of the plan.
inline std::vector<std::uint64_t> prefix_digests(std::span<const plan_field> fields) {
  std::vector<std::uint64_t> digests = {0};
  digests.reserve(fields.size() + 1);
  for (const plan_field& f : fields) digests.push_back(digest_with(digests.back(), digest_of(f)));
  return digests;
}

}  // namespace normuon

#endif
