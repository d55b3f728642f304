// The matrices of an optimizer's parameters as a shard plan sees them, and which rank owns which.
#ifndef NORMUON_OPTIMIZER_OWNERSHIP_HPP
#define NORMUON_OPTIMIZER_OWNERSHIP_HPP

#include "normuon/optimizer/parameter.hpp"
#include "normuon/shards/plan/owners.hpp"

namespace normuon {

// Every matrix of every parameter, in their order. `wire`: the type in which U and D travel.
template <tensor_backend B>
std::vector<sharded_matrix> matrices_of(const std::vector<group>& groups, const std::vector<parameter<B>>& parameters,
                                        element_type wire) {
  std::vector<sharded_matrix> matrices;
  for (const parameter<B>& p : parameters)
    for (index_t b = 0; b < p.batch; ++b)
      matrices.push_back({.name = p.name,
                          .rows = p.rows,
                          .cols = p.cols,
                          .where = p.how,
                          .wire = wire,
                          .matrix_rule = groups[static_cast<std::size_t>(p.group)].is_matrix_rule(),
                          .entry = b,
                          .owner = p.owners.empty() ? no_owner : p.owners[static_cast<std::size_t>(b)]});
  return matrices;
}

// What chooses the owner of each matrix, or no_owner. A pointer, so that a registry without ranks does not compile how
// they divide the work: see owner_choice_of.
using owner_choice = std::vector<int> (*)(std::span<const sharded_matrix> matrices, int ranks);
inline std::vector<int> owners_among_ranks(std::span<const sharded_matrix> matrices, int ranks) {
  return assign_owners(matrices, ranks).owner;
}

// Sets the owners of all parameters of matrix rules: the same on every rank, without asking the others. Who owns a
// matrix already keeps it, as its v is there.
template <tensor_backend B>
void choose_owners(owner_choice choose, const std::vector<group>& groups, std::vector<parameter<B>>& parameters,
                   int ranks) {
  const std::vector<int> chosen = choose(matrices_of(groups, parameters, element_type_of<typename B::real>), ranks);
  auto next = chosen.begin();
  for (parameter<B>& p : parameters) {
    if (groups[static_cast<std::size_t>(p.group)].is_matrix_rule()) p.owners.assign(next, next + p.batch);
    next += p.batch;
  }
}

// Restores who owned what when it was made, and whether that was all, unless it is told to keep what was chosen since:
// an act that fails, or was done for what goes away, leaves no owners behind.
template <tensor_backend B>
class owners_before {
 public:
  owners_before(std::vector<parameter<B>>& parameters, bool& chosen)
      : parameters_(parameters), chosen_(chosen), were_chosen_(chosen) {
    for (const parameter<B>& p : parameters) owners_.push_back(p.owners);
  }
  owners_before(const owners_before&) = delete;
  owners_before& operator=(const owners_before&) = delete;
  ~owners_before() {
    for (std::size_t i = 0; i < owners_.size(); ++i) parameters_[i].owners.swap(owners_[i]);
    chosen_ = were_chosen_;
  }

  void keep_chosen() {
    owners_.clear();
    were_chosen_ = chosen_;
  }
  // What act() returns.
  template <class Act>
  auto restored_after(Act&& act) && {
    return act();
  }

 private:
  std::vector<parameter<B>>& parameters_;
  bool& chosen_;
  bool were_chosen_;
  std::vector<std::vector<int>> owners_;
};

}  // namespace normuon

#endif
