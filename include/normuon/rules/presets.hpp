// Every preset by its name. Standard library only.
#ifndef NORMUON_RULES_PRESETS_HPP
#define NORMUON_RULES_PRESETS_HPP

#include <string_view>
#include <variant>

#include "normuon/rules/adamw.hpp"
#include "normuon/rules/muon.hpp"
#include "normuon/rules/normuon.hpp"

namespace normuon {

using rule_options = std::variant<normuon_options, muon_options, adamw_options>;

struct named_preset {
  std::string_view rule, name;
  rule_options options;
};

// Rule by rule; the first of a rule is its default.
inline constexpr named_preset preset_table[] = {
    {"normuon", "paper", normuon_options::paper()},     {"normuon", "reference", normuon_options::reference()},
    {"normuon", "nanogpt", normuon_options::nanogpt()}, {"normuon", "dion", normuon_options::dion()},
    {"muon", "jordan", muon_options::jordan()},         {"muon", "moonlight", muon_options::moonlight()},
    {"muon", "torch_muon", muon_options::torch_muon()}, {"adamw", "adamw", adamw_options()},
};

}  // namespace normuon

#endif
