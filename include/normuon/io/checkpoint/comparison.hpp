// Compares what a checkpoint says with an optimizer that shall go on from it, and takes out of it what is brought back.
#ifndef NORMUON_IO_CHECKPOINT_COMPARISON_HPP
#define NORMUON_IO_CHECKPOINT_COMPARISON_HPP

#include <algorithm>
#include <charconv>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "normuon/io/checkpoint/description.hpp"
#include "normuon/io/checkpoint/ranks.hpp"
#include "normuon/optimizer.hpp"

namespace normuon {

struct load_options {
  bool weights = true;                           // reads the bound weights as well; the file must have them
  bool other_kernel_path = false;                // goes on with other kernels, so with other bits
  bool other_numbers = false;                    // goes on with the rates, decays and betas that the optimizer has
  std::optional<file_deadlines> deadlines = {};  // for ranks that wait long for one another
};

// What of the metadata is brought back.
struct saved_progress {
  index_t step = 0;
  double gradient_scale = 1;
  std::vector<group_numbers> numbers;  // of each group
  std::set<std::string, std::less<>> frozen;
  std::map<std::string, std::string> text;  // the trainer's own
};

// Where a trainer's own tensors and text stand, so that they don't meet an optimizer's.
inline std::string extra_tensor(const std::string& name) { return "extra." + name; }
inline constexpr std::string_view extra_text_prefix = "text.";

// Metadata that is taken apart key by key.
class metadata_remains {
 public:
  metadata_remains(const metadata_map& all, std::string_view where) : rest_(all), where_(where) {}

  // Throws where the text is another, unless that is allowed; `hint` ends the message.
  void expect(const std::string& key, const std::string& text, bool allowed, std::string_view hint) {
    const auto found = rest_.extract(key);
    if (found.empty())
      fail(error_code::state, where_, ": ", printable(key), ": expected '", printable(text), "', found none");
    if (found.mapped() != text && !allowed)
      fail(error_code::state, where_, ": ", printable(key), ": expected '", printable(text), "', found '",
           printable(found.mapped()), "'", hint);
  }

  // A number as `print` writes it.
  template <class Number, class Print>
  Number number(const std::string& key, Print&& print) {
    const auto found = rest_.extract(key);
    const std::string text = found.empty() ? "" : found.mapped();
    Number x = 0;
    std::from_chars(text.data(), text.data() + text.size(), x);
    if (print(x) != text)
      fail(error_code::file, where_, ": ", key, ": expected a number in its metadata, found '", printable(text), "'");
    return x;
  }
  double number(const std::string& key) {
    return number<double>(key, [](double x) { return text_of(x); });
  }

  bool flag(const std::string& key) {
    const auto found = rest_.extract(key);
    if (!found.empty() && found.mapped() != "true")
      fail(error_code::file, where_, ": ", printable(key), ": expected 'true', found '", printable(found.mapped()),
           "'");
    return !found.empty();
  }

  // The keys with the prefix, which is cut off. Throws where others are left.
  std::map<std::string, std::string> last(std::string_view prefix) {
    std::map<std::string, std::string> out;
    for (auto& [key, text] : rest_) {
      if (!key.starts_with(prefix))
        fail(error_code::state, where_, ": ", printable(key), ": expected none, found '", printable(text), "'");
      out.emplace(key.substr(prefix.size()), std::move(text));
    }
    return out;
  }

 private:
  metadata_map rest_;
  std::string_view where_;
};

// Throws error_code::state with the first field in which the optimizer and the file's metadata differ, and
// error_code::file where the metadata is malformed.
template <tensor_backend B, shard_engine Engine>
saved_progress require_same(optimizer<B, Engine>& opt, const metadata_map& metadata, const load_options& options,
                            std::string_view where) {
  metadata_remains rest(metadata, where);
  for (const auto& [key, text] : describe_run(opt, opt.options())) {
    const auto is = [&, &key = key](std::string_view field) {
      return key.starts_with("group.") && key.substr(key.find('.', 6) + 1) == field;
    };
    const bool is_path = is(kernel_path_field);
    const bool is_number = std::any_of(std::begin(number_fields), std::end(number_fields), is);
    rest.expect(key, text, (is_path && options.other_kernel_path) || (is_number && options.other_numbers),
                is_path     ? "; load_options::other_kernel_path goes on with other bits"
                : is_number ? "; load_options::other_numbers goes on with the optimizer's"
                            : "");
  }
  saved_progress out;
  out.step = rest.template number<index_t>("step", [](index_t x) { return std::to_string(x); });
  out.gradient_scale = rest.number("gradient_scale");
  for (std::size_t i = 0; i < opt.groups().size(); ++i) {
    const auto now = [&](const char* field) { return rest.number(group_key(i) + now_prefix + field); };
    out.numbers.push_back({now("learning_rate"), now("momentum"), now("beta2"), now("weight_decay")});
  }
  for (const parameter<B>& p : opt.parameters())
    if (rest.flag("frozen." + p.name)) out.frozen.insert(p.name);
  out.text = rest.last(extra_text_prefix);
  return out;
}

// Throws error_code::state where the file hasn't the optimizer's tensors, and no others but a trainer's own. Returns
// the indices of those.
template <tensor_backend B>
std::vector<std::size_t> require_tensors(const registry<B>& opt, const checkpoint_plan& plan,
                                         const load_options& options, std::string_view where) {
  std::vector<bool> known(plan.tensors().size());
  const auto require = [&](const logical_tensor& expected, std::string_view hint) {
    const std::size_t i = plan.find(expected.name);
    const bool there = i < known.size();
    if (!there || text_of(plan.tensors()[i]) != text_of(expected))
      fail(error_code::state, where, ": tensor '", printable(expected.name), "': expected ", text_of(expected),
           ", found ", there ? text_of(plan.tensors()[i]) : "none", there ? "" : hint);
    known[i] = true;
  };
  for (const logical_tensor& t : logical_tensors(opt, false)) require(t, "");
  for (const parameter<B>& p : opt.parameters()) {
    const logical_tensor weight = weight_tensor(p);
    if (options.weights) require(weight, "; load_options::weights = false goes on without");
    else if (const std::size_t i = plan.find(weight.name); i < known.size()) known[i] = true;
  }
  std::vector<std::size_t> extras;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (known[i]) continue;
    if (!plan.tensors()[i].name.starts_with(extra_tensor("")))
      fail(error_code::state, where, ": tensor '", printable(plan.tensors()[i].name), "': expected none, found ",
           text_of(plan.tensors()[i]));
    extras.push_back(i);
  }
  return extras;
}

}  // namespace normuon

#endif
