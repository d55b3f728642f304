// What can be chosen on the command line: the presets, and the keys of --set in a table. Parsing, messages, --help and
// the metadata of the output are all made from them.
#ifndef NORMUON_EXAMPLES_REPLAY_OPTIONS_HPP
#define NORMUON_EXAMPLES_REPLAY_OPTIONS_HPP

#include <iterator>

#include "normuon/io/printable.hpp"
#include "normuon/rules/presets.hpp"
#include "values.hpp"

namespace replay {

// All that a run needs to know besides its tensors.
struct setup {
  explicit setup(const named_preset& p) : preset(&p), options(p.options) {
    std::visit(
        [this](const auto& o) {
          learning_rate.numbers = {o.learning_rate};
          momentum.numbers = {o.momentum};
          weight_decay.numbers = {o.weight_decay};
        },
        options);
  }

  const named_preset* preset;
  rule_options options;
  series learning_rate, momentum, weight_decay;  // set at every step, in place of the numbers in `options`
  thread_count threads;
};

// Calls f(key, value) for what AdamW has no choice in, but is asked for by those who describe every rule with the same
// keys, as the golden vectors do. Throws where f changes it.
template <class F, class T>
void offer_only(F& f, const char* key, const T& value) {
  T given = value;
  f(key, given);
  if (given != value) fail(error_code::option, "--set ", key, ": expected ", kind<T>::print(value), " for rule adamw");
}

// Calls f(key, value) for every key that the rule has.
template <class F>
void for_each_key(setup& s, F&& f) {
  f("learning_rate", s.learning_rate);
  f("momentum", s.momentum);
  f("weight_decay", s.weight_decay);
  std::visit(
      [&](auto& o) {
        if constexpr (requires { o.beta2; }) {
          f("beta2", o.beta2);
          f("epsilon", o.epsilon);
        }
        if constexpr (requires { o.neuron_axis; }) f("neuron_axis", o.neuron_axis);
        if constexpr (requires { o.orthogonalizer; }) {
          restart_list restarts{o.orthogonalizer.restarts};
          f("nesterov", o.nesterov);
          f("momentum_form", o.momentum_form);
          f("orthogonalizer", o.orthogonalizer.table);
          f("form", o.orthogonalizer.form);
          f("restart", restarts);
          f("norm_guard", o.orthogonalizer.guard);
          f("compute", o.orthogonalizer.compute);
          f("scale", o.scale);
          o.orthogonalizer.restarts = restarts.steps;
        } else {
          offer_only(f, "nesterov", false);
          offer_only(f, "momentum_form", momentum_form::ema);
          norm_guard either = norm_guard::exact;  // there is no norm to guard
          f("norm_guard", either);
        }
        f("decay", o.decay);
      },
      s.options);
  f("threads", s.threads);
}

// Every key with its value, printed.
inline std::vector<std::pair<std::string, std::string>> printed_keys(setup s) {
  std::vector<std::pair<std::string, std::string>> all;
  for_each_key(s, [&]<class T>(const char* key, const T& x) { all.emplace_back(key, kind<T>::print(x)); });
  return all;
}

// The preset that the flags name; an empty text leaves the choice to the other. Throws where there is none.
inline const named_preset& find_preset(std::string_view rule, std::string_view name) {
  std::vector<std::string_view> rules, of_rule;
  for (const named_preset& p : preset_table) {
    if ((rule.empty() || p.rule == rule) && (name.empty() || p.name == name)) return p;
    if (rules.empty() || rules.back() != p.rule) rules.push_back(p.rule);
    if (rule.empty() || p.rule == rule) of_rule.push_back(p.name);
  }
  if (of_rule.empty()) fail(error_code::option, "--rule: expected ", any_of(rules), ", got '", printable(rule), "'");
  fail(error_code::option, "--preset: expected ", any_of(of_rule), rule.empty() ? "" : " for rule ", rule, ", got '",
       printable(name), "'");
}

// Applies one `key=value`. Throws where the rule has no such key, or the value is not of its kind.
inline void assign(setup& s, std::string_view assignment) {
  const std::size_t equals = assignment.find('=');
  if (equals == assignment.npos)
    fail(error_code::option, "--set: expected key=value, got '", printable(assignment), "'");
  const std::string_view wanted = assignment.substr(0, equals), text = assignment.substr(equals + 1);
  bool found = false;
  std::vector<std::string_view> keys;
  for_each_key(s, [&]<class T>(const char* key, T& x) {
    keys.push_back(key);
    if (key != wanted) return;
    found = true;
    if (!kind<T>::read(text, x))
      fail(error_code::option, "--set ", key, ": expected ", kind<T>::expected(), ", got '", printable(text), "'");
  });
  if (!found)
    fail(error_code::option, "--set: expected ", any_of(keys), " for rule ", s.preset->rule, ", got the key '",
         printable(wanted), "'");
}

// The setup that the flags describe. Throws as the functions above, and where a key is set twice.
inline setup make_setup(std::string_view rule, std::string_view preset, const std::vector<std::string>& assignments) {
  setup s(find_preset(rule, preset));
  std::vector<std::string> seen;
  for (const std::string& a : assignments) {
    assign(s, a);
    const std::string key = a.substr(0, a.find('='));
    if (std::find(seen.begin(), seen.end(), key) != seen.end())
      fail(error_code::option, "--set ", key, ": expected one value, got two");
    seen.push_back(key);
  }
  return s;
}

// For --help: what each key takes, and for each rule a table of its presets.
inline std::string describe_keys() {
  std::string text = "Keys of --set:\n";
  setup first(preset_table[0]);  // the rule that has every key
  for_each_key(first, [&]<class T>(const char* key, const T&) {
    text += fmt::format("  {:<15}{}\n", key, kind<T>::expected());
  });
  for (const named_preset* begin = std::begin(preset_table); begin != std::end(preset_table);) {
    const named_preset* const end =
        std::find_if(begin, std::end(preset_table), [&](const named_preset& p) { return p.rule != begin->rule; });
    std::vector<std::string> lines{fmt::format("\nrule {:<12}", begin->rule)};
    for (const auto& [key, value] : printed_keys(setup(*begin))) lines.push_back(fmt::format("  {:<15}", key));
    for (const named_preset* p = begin; p != end; ++p) {
      const auto keys = printed_keys(setup(*p));
      std::size_t width = p->name.size();
      for (const auto& [key, value] : keys) width = std::max(width, value.size());
      lines[0] += fmt::format("  {:<{}}", p->name, width);
      for (std::size_t i = 0; i < keys.size(); ++i) lines[i + 1] += fmt::format("  {:<{}}", keys[i].second, width);
    }
    for (std::string& line : lines) text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    begin = end;
  }
  return text;
}

}  // namespace replay

#endif
