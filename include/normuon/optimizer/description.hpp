// What the steps of an optimizer depend on, in words: what ranks compare before they begin, and a run before it goes
// on.
#ifndef NORMUON_OPTIMIZER_DESCRIPTION_HPP
#define NORMUON_OPTIMIZER_DESCRIPTION_HPP

#include <charconv>
#include <string>
#include <utility>
#include <vector>

#include "normuon/optimizer/options.hpp"
#include "normuon/optimizer/registry.hpp"
#include "normuon/rules/names.hpp"
#include "normuon/rules/presets.hpp"
#include "normuon/shards/digest.hpp"
#include "normuon/shards/plan/fields.hpp"

namespace normuon {

// Words in an order in which they are read and compared.
using described_fields = std::vector<std::pair<std::string, std::string>>;

// The same for ranks to compare.
inline std::vector<plan_field> plan_fields(const described_fields& fields) {
  std::vector<plan_field> all;
  for (const auto& [name, text] : fields) all.push_back({name, text});
  return all;
}

// The shortest decimal number that is read as x.
inline std::string text_of(double x) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof(text), x).ptr};
}

// What the numbers of a table are, whatever it is called: rows, norm factor and where the Gram form restarts.
inline std::uint64_t digest_of(const coefficient_table& table) {
  std::vector<double> numbers{table.norm_factor};
  for (const quintic& row : table.active()) numbers.insert(numbers.end(), {row.a, row.b, row.c});
  for (const auto& restarts : {table.gram_restarts_fp32, table.gram_restarts_bf16, table.gram_restarts_compensated}) {
    numbers.push_back(restarts ? 1 : 0);
    for (int step = 1; restarts && step <= restarts->last(); ++step)
      numbers.push_back(restarts->contains(step) ? 1 : 0);
  }
  return digest_of(std::as_bytes(std::span(numbers)));
}

// The choices of a rule: all of its options but the numbers that may change from step to step.
inline described_fields choices(const group_options& options) {
  if (const auto* o = std::get_if<adamw_options>(&options))
    return {{"epsilon", text_of(o->epsilon)},
            {"decay", std::string(name_of_value(o->decay))},
            {"weight_rounding", std::string(name_of_value(o->weight_rounding))}};
  const auto& o = std::get<normuon_options>(options);
  const auto named = [](const auto& value) { return std::string(name_of_value(value)); };
  return {{"epsilon", text_of(o.epsilon)},
          {"epsilon_form", named(o.epsilon_form)},
          {"nesterov", named(o.nesterov)},
          {"momentum_form", named(o.momentum_form)},
          {"neuron_axis", named(o.neuron_axis)},
          {"scale", named(o.scale)},
          {"decay", named(o.decay)},
          {"weight_rounding", named(o.weight_rounding)},
          {"orthogonalizer", std::string(o.orthogonalizer.table.name)},
          {"coefficients", std::to_string(digest_of(o.orthogonalizer.table))},
          {"form", named(o.orthogonalizer.form)},
          {"restart", text_of(o.orthogonalizer.restarts)},
          {"norm_guard", named(o.orthogonalizer.guard)},
          {"norm_added", text_of(o.published.norm_added)},
          {"norm_floor", text_of(o.published.norm_floor)},
          {"ratio_added", text_of(o.published.ratio_added)},
          {"ratio_floor", text_of(o.published.ratio_floor)}};
}

// The preset whose choices these are, whatever their numbers; "none" where there is no such preset.
inline std::string preset_of(const group_options& options) {
  for (const named_preset& p : preset_table) {
    const auto of_preset = std::visit([](const auto& o) { return group_options(o); }, p.options);
    if (of_preset.index() == options.index() && choices(of_preset) == choices(options)) return std::string(p.name);
  }
  return "none";
}

inline std::string group_key(std::size_t i) { return "group." + std::to_string(i) + "."; }

inline described_fields numbers_of(const group_numbers& n) {
  return {{"learning_rate", text_of(n.learning_rate)},
          {"momentum", text_of(n.momentum)},
          {"beta2", text_of(n.beta2)},
          {"weight_decay", text_of(n.weight_decay)}};
}

// All that may be another for each step, but the same on all ranks.
inline described_fields describe_step(write_form written, const std::vector<group>& groups, double gradient_scale) {
  described_fields all{{"call", written == write_form::weight ? "step" : "step_changes"}};
  for (std::size_t i = 0; i < groups.size(); ++i)
    for (auto& [field, text] : numbers_of(groups[i].numbers())) all.push_back({group_key(i) + field, text});
  all.push_back({"gradient_scale", text_of(gradient_scale)});
  return all;
}

inline constexpr const char* kernel_path_field = "kernel_path";

// A group as it was given.
template <tensor_backend B>
described_fields describe(B& b, const group& g) {
  compute_type compute = B::default_compute();
  if (const auto* o = std::get_if<normuon_options>(&g.given); o && o->orthogonalizer.compute != compute_type::automatic)
    compute = o->orthogonalizer.compute;
  group as_given = g;
  as_given.options = g.given;
  described_fields fields{{"rule", std::string(g.rule)}};
  for (auto& field : choices(g.given)) fields.push_back(std::move(field));
  if (g.is_matrix_rule()) fields.push_back({"compute", std::string(name_of(compute))});
  for (auto& field : numbers_of(as_given.numbers())) fields.push_back(std::move(field));
  fields.push_back({"learning_rate_factor", text_of(g.factors.learning_rate)});
  fields.push_back({"weight_decay_factor", text_of(g.factors.weight_decay)});
  std::string path = "unnamed";
  if constexpr (has_kernel_path<B>) path = b.kernel_path(compute);
  fields.push_back({kernel_path_field, std::move(path)});
  fields.push_back(
      {"preset", preset_of(g.given)});  // the last: where it differs, the field that makes it differ is named
  return fields;
}

template <>
inline constexpr auto value_names<missing_gradient_policy> = std::to_array<named_value<missing_gradient_policy>>({
    {"skip", missing_gradient_policy::skip},
    {"zero", missing_gradient_policy::zero},
});
template <>
inline constexpr auto value_names<non_finite_policy> = std::to_array<named_value<non_finite_policy>>({
    {"skip", non_finite_policy::skip},
    {"raise", non_finite_policy::raise},
    {"propagate", non_finite_policy::propagate},
});

inline described_fields describe(const optimizer_options& o, element_type wire) {
  return {{"missing_gradient", std::string(name_of_value(o.missing_gradient))},
          {"wire", std::string(name_of(wire))},
          {"seed", std::to_string(o.seed)}};
}

// All that must be the same where a run goes on.
template <tensor_backend B>
described_fields describe_run(registry<B>& opt, const optimizer_options& options) {
  const element_type real = element_type_of<typename B::real>;
  described_fields all{{"groups", std::to_string(opt.groups().size())}, {"state_type", std::string(name_of(real))}};
  for (auto& field : describe(options, options.wire.value_or(real))) all.push_back(std::move(field));
  for (std::size_t i = 0; i < opt.groups().size(); ++i)
    for (auto& [field, text] : describe(opt.backend(), opt.groups()[i])) all.push_back({group_key(i) + field, text});
  for (const parameter<B>& p : opt.parameters())
    all.push_back({"parameter." + p.name, "group " + std::to_string(p.group) + ", " + std::string(name_of(p.type)) +
                                              ", " + sizes_text(p.rows, p.cols, p.batch)});
  return all;
}

// All that must be the same on all ranks.
template <tensor_backend B>
described_fields describe(registry<B>& opt, const optimizer_options& options) {
  described_fields all = describe_run(opt, options);
  all.push_back({"non_finite", std::string(name_of_value(options.non_finite))});
  return all;
}

}  // namespace normuon

#endif
