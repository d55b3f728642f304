// What the choices in options are called where they are written as text: in checkpoints and on command lines; a choice
// without a name is none. Standard library only.
#ifndef NORMUON_RULES_NAMES_HPP
#define NORMUON_RULES_NAMES_HPP

#include <array>
#include <string>
#include <string_view>

#include "normuon/math/newton_schulz.hpp"

namespace normuon {

template <class T>
struct named_value {
  std::string_view name;
  T value;
};

// Every value of a type of choice, with its name.
template <class T>
inline constexpr std::array<named_value<T>, 0> value_names = {};

template <>
inline constexpr auto value_names<bool> = std::to_array<named_value<bool>>({{"true", true}, {"false", false}});
template <>
inline constexpr auto value_names<momentum_form> = std::to_array<named_value<momentum_form>>({
    {"ema", momentum_form::ema},
    {"heavy_ball", momentum_form::heavy_ball},
});
template <>
inline constexpr auto value_names<neuron_axis> = std::to_array<named_value<neuron_axis>>({
    {"rows", neuron_axis::rows},
    {"columns", neuron_axis::columns},
    {"longer", neuron_axis::longer},
    {"none", neuron_axis::none},
});
template <>
inline constexpr auto value_names<epsilon_form> = std::to_array<named_value<epsilon_form>>({
    {"after_root", epsilon_form::after_root},
    {"floor", epsilon_form::floor},
});
template <>
inline constexpr auto value_names<iteration_form> = std::to_array<named_value<iteration_form>>({
    {"auto", iteration_form::automatic},
    {"plain", iteration_form::plain},
    {"gram", iteration_form::gram},
});
template <>
inline constexpr auto value_names<norm_guard> = std::to_array<named_value<norm_guard>>({
    {"exact", norm_guard::exact},
    {"as_published", norm_guard::as_published},
});
template <>
inline constexpr auto value_names<update_scale> = std::to_array<named_value<update_scale>>({
    {"rms_0.2", update_scale::rms_02},
    {"keep_norm", update_scale::keep_norm},
    {"keep_norm*sqrt_max_1_ratio", update_scale::keep_norm_sqrt_max_1_ratio},
    {"keep_norm*sqrt_ratio", update_scale::keep_norm_sqrt_ratio},
    {"sqrt_max_1_ratio", update_scale::sqrt_max_1_ratio},
    {"0.2*sqrt_max_side", update_scale::match_adamw_rms},
});
template <>
inline constexpr auto value_names<decay_form> = std::to_array<named_value<decay_form>>({
    {"decoupled", decay_form::decoupled},
    {"cautious", decay_form::cautious},
});
template <>
inline constexpr auto value_names<compute_type> = [] {
  std::array<named_value<compute_type>, 6> all{};
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = {name_of(compute_type(i)), compute_type(i)};
  return all;
}();
template <>
inline constexpr auto value_names<weight_rounding> = std::to_array<named_value<weight_rounding>>({
    {"stochastic", weight_rounding::stochastic},
    {"nearest", weight_rounding::nearest},
    {"master", weight_rounding::master},
});

// Throws where the value is none of its type.
template <class T>
constexpr std::string_view name_of_value(const T& value) {
  for (const named_value<T>& n : value_names<T>)
    if (n.value == value) return n.name;
  fail(error_code::option, "expected a value that has a name, got another");
}

// Throws where an option's value is none of its type.
template <class T>
constexpr void validate_choice(std::string_view option, T value) {
  for (const named_value<T>& n : value_names<T>)
    if (n.value == value) return;
  fail(error_code::option, "expected a choice of ", option, " that has a name, got ", static_cast<int>(value));
}

// "auto", "none", or the steps: "2,4".
inline std::string text_of(const std::optional<restart_steps>& restarts) {
  if (!restarts) return "auto";
  std::string text;
  for (int step = 1; step <= restarts->last(); ++step)
    if (restarts->contains(step)) text += (text.empty() ? "" : ",") + std::to_string(step);
  return text.empty() ? "none" : text;
}

}  // namespace normuon

#endif
