// The layouts that a model can be planned for, by name.
#ifndef NORMUON_EXAMPLES_PLAN_LAYOUTS_HPP
#define NORMUON_EXAMPLES_PLAN_LAYOUTS_HPP

#include "normuon/shards/plan/owners.hpp"
#include "shapes.hpp"

namespace plan_example {

inline constexpr const char* layouts_expected =
    "rows, cols, flat, grid:FSDPxTP, grid-rows:FSDPxTP, owned or replicated";

// "FSDPxTP" behind `prefix`; zeros where the text is something else.
inline std::pair<int, int> grid_sides(std::string_view text, std::string_view prefix) {
  std::pair<int, int> sides = {0, 0}, none = sides;
  if (!text.starts_with(prefix)) return none;
  const char *at = text.data() + prefix.size(), *const end = text.data() + text.size();
  const auto first = std::from_chars(at, end, sides.first);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != 'x') return none;
  const auto second = std::from_chars(first.ptr + 1, end, sides.second);
  return second.ec == std::errc() && second.ptr == end ? sides : none;
}

// The model's matrices, one by one, in the layout of that name on so many ranks.
inline std::vector<sharded_matrix> lay_out(const std::vector<model_matrix>& model, std::string_view name,
                                           element_type wire, int ranks) {
  const auto [fsdp, tp] = grid_sides(name, "grid:");
  const auto [fsdp_of_rows, tp_of_rows] = grid_sides(name, "grid-rows:");
  layout where = layout::rows();
  if (name == "cols") where = layout::cols();
  else if (name == "replicated") where = layout::replicated();
  else if (fsdp != 0) where = layout::grid(fsdp, tp);
  else if (fsdp_of_rows != 0) where = layout::grid(fsdp_of_rows, tp_of_rows, tensor_parallel::rows);
  else if (name != "rows" && name != "flat" && name != "owned")
    fail(error_code::option, "--layout: expected ", layouts_expected, ", got '", printable(name), "'");
  std::vector<sharded_matrix> matrices;
  for (const model_matrix& a : model)
    for (index_t entry = 0; entry < a.batch; ++entry)
      matrices.push_back({printable(a.name, a.name.size()), a.rows, a.cols, where, wire, true, entry});
  check_matrices(matrices, ranks);
  if (name == "flat") {  // one buffer of all matrices, as ZeRO-1 has it
    index_t total = 0, begin = 0;
    for (const sharded_matrix& a : matrices) total += a.elements();
    for (sharded_matrix& a : matrices) {
      a.where = layout::flat_slice(begin, (total + ranks - 1) / ranks);
      begin += a.elements();
    }
  }
  if (name == "owned") {  // each where it would be computed
    const ownership owners = assign_owners(matrices, ranks);
    for (std::size_t i = 0; i < matrices.size(); ++i) matrices[i].where = layout::owned(owners.owner[i]);
  }
  return matrices;
}

}  // namespace plan_example

#endif
