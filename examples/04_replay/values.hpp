// The kinds of value that `--set key=value` takes. Of each kind stand together which texts it accepts, how a message
// says what was expected, and how a value is printed; what is printed is always accepted.
#ifndef NORMUON_EXAMPLES_REPLAY_VALUES_HPP
#define NORMUON_EXAMPLES_REPLAY_VALUES_HPP

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "normuon/normuon.hpp"
#include "normuon/rules/names.hpp"

namespace replay {

using namespace normuon;

// One number for all steps, or one for each.
struct series {
  std::vector<double> numbers;
  double at(std::size_t step) const { return numbers[numbers.size() == 1 ? 0 : step]; }
};

struct restart_list {
  std::optional<normuon::restart_steps> steps;  // as in orthogonalizer_options
};

struct thread_count {
  int number = 1;  // one matrix keeps one thread busy
};

// The values of a type that is chosen by name.
template <class T>
inline constexpr auto names = value_names<T>;

// Without `none`, which makes Muon of NorMuon: a rule of its own here.
template <>
inline constexpr auto names<neuron_axis> =
    std::to_array({value_names<neuron_axis>[0], value_names<neuron_axis>[1], value_names<neuron_axis>[2]});
template <>
inline constexpr auto names<coefficient_table> = std::to_array<named_value<coefficient_table>>({
    {jordan.name, jordan},
    {you.name, you},
    {polar_express_101.name, polar_express_101},
    {polar_express_102.name, polar_express_102},
    {polar_express_dao.name, polar_express_dao},
    {deepseek_v4.name, deepseek_v4},
    {simple_12.name, simple_12},
});

// "a", "a or b", "a, b or c".
inline std::string any_of(const std::vector<std::string_view>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i)
    text.append(i == 0 ? "" : i + 1 == words.size() ? " or " : ", ").append(words[i]);
  return text;
}

// The whole text as a number; false where it is none, or not finite.
template <class Number>
bool read_number(std::string_view text, Number& x) {
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, x);
  return result.ec == std::errc() && result.ptr == end && is_finite(static_cast<double>(x));
}

// A kind of value, by its type: one that is chosen by name, or one of those below.
template <class T>
struct kind {
  static std::string expected() {
    std::vector<std::string_view> words;
    for (const named_value<T>& n : names<T>) words.push_back(n.name);
    return any_of(words);
  }
  static bool read(std::string_view text, T& x) {
    const auto found = std::find_if(names<T>.begin(), names<T>.end(), [&](const auto& n) { return n.name == text; });
    if (found != names<T>.end()) x = found->value;
    return found != names<T>.end();
  }
  static std::string print(const T& x) {
    const auto found = std::find_if(names<T>.begin(), names<T>.end(), [&](const auto& n) { return n.value == x; });
    return std::string(found->name);
  }
};

template <>
struct kind<double> {
  static std::string expected() { return "a number"; }
  static bool read(std::string_view text, double& x) { return read_number(text, x); }
  static std::string print(double x) { return fmt::format("{}", x); }
};

template <>
struct kind<series> {
  static std::string expected() { return "a number, or a comma list with one per step"; }
  static bool read(std::string_view text, series& x) {
    x.numbers.clear();
    for (std::size_t begin = 0, end = 0; end != text.npos; begin = end + 1) {
      end = text.find(',', begin);
      if (!read_number(text.substr(begin, end - begin), x.numbers.emplace_back())) return false;
    }
    return true;
  }
  static std::string print(const series& x) { return fmt::format("{}", fmt::join(x.numbers, ",")); }
};

template <>
struct kind<restart_list> {
  static std::string expected() {
    return fmt::format("a step index from 1 to {}, a comma list of them, none or auto", normuon::restart_steps::most);
  }
  static bool read(std::string_view text, restart_list& x) {
    x.steps.reset();
    if (text == "auto") return true;
    x.steps.emplace();
    if (text == "none") return true;
    for (std::size_t begin = 0, end = 0; end != text.npos; begin = end + 1) {
      end = text.find(',', begin);
      int step = 0;
      if (!read_number(text.substr(begin, end - begin), step) || step < 1 || step > normuon::restart_steps::most)
        return false;
      x.steps->add(step);
    }
    return true;
  }
  static std::string print(const restart_list& x) { return text_of(x.steps); }
};

template <>
struct kind<thread_count> {
  static constexpr int most = 1024;  // more than machines have: a slip of the finger
  static std::string expected() { return fmt::format("a number from 1 to {}", most); }
  static bool read(std::string_view text, thread_count& x) {
    return read_number(text, x.number) && x.number >= 1 && x.number <= most;
  }
  static std::string print(thread_count x) { return std::to_string(x.number); }
};

}  // namespace replay

#endif
