// Proposes which parameters a matrix rule should move and which AdamW, from names and shapes. A proposal to read, not a
// decision: print it, correct it, and add parameters to groups yourself. Standard library only.
#ifndef NORMUON_ROUTING_HPP
#define NORMUON_ROUTING_HPP

#include <algorithm>
#include <cctype>
#include <iomanip>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "normuon/matrix_ref.hpp"

namespace normuon {

// A parameter as a trainer knows it: out-features or out-channels first.
struct named_shape {
  std::string name;
  std::vector<index_t> shape;
};

enum class route_to { matrix_rule, adamw };

struct route {
  named_shape parameter;
  route_to rule = route_to::adamw;
  std::string reason;
};

enum class numbered { yes, no };

// True where one of the name's words (split at anything but letters and digits) is `word`, whatever the case; with a
// number behind it too, if that may be: "conv1" and "conv12" are "conv".
inline bool has_word(std::string_view name, std::string_view word, numbered also = numbered::yes) {
  std::string current;
  for (std::size_t i = 0; i <= name.size(); ++i) {
    const auto c = i < name.size() ? static_cast<unsigned char>(name[i]) : static_cast<unsigned char>(' ');
    if (std::isalnum(c)) {
      current += static_cast<char>(std::tolower(c));
      continue;
    }
    const std::size_t unnumbered = current.find_last_not_of("0123456789") + 1;
    if (current == word || (also == numbered::yes && current.compare(0, unnumbered, word) == 0)) return true;
    current.clear();
  }
  return false;
}

// What one parameter should be moved by, and why. Embeddings, heads and norms go to AdamW although they may have two
// dimensions (kellerjordan.github.io/posts/muon), and so do depthwise and first convolutions.
inline route propose_route(const named_shape& p) {
  const auto elements = [&](std::string reason) { return route{p, route_to::adamw, std::move(reason)}; };
  const auto any_word = [&](std::initializer_list<std::string_view> words) {
    return std::any_of(words.begin(), words.end(), [&](std::string_view w) { return has_word(p.name, w); });
  };
  const auto sides = std::count_if(p.shape.begin(), p.shape.end(), [](index_t extent) { return extent > 1; });
  if (sides < 2) return elements("a vector or scalar");
  if (any_word({"embed", "embedding", "embeddings", "emb", "embd", "wte", "wpe"}))
    return elements("an embedding, by its name");
  // The head of Llama and llama.cpp; deeper down `output` names the end of a branch. A numbered head is of attention.
  const bool is_output = p.name == "output.weight" || p.name == "output";
  if (is_output || has_word(p.name, "head", numbered::no) || any_word({"classifier", "unembed"}))
    return elements("an output head, by its name");
  if (any_word({"norm", "ln", "layernorm", "rmsnorm", "bias"})) return elements("a norm or a bias, by its name");
  if (p.shape.size() == 2) return {p, route_to::matrix_rule, "a matrix"};
  if (p.shape.size() == 3 && !any_word({"conv", "conv1d"})) return {p, route_to::matrix_rule, "a batch of matrices"};
  if (p.shape[1] == 1) return elements("a depthwise convolution");
  if (p.shape[1] <= 4) return elements("a first convolution, of few input channels");
  return {p, route_to::matrix_rule, "a convolution, one row per output channel"};
}

// The proposal for all parameters, in their order. Throws where none of them goes to a matrix rule: then shapes were
// lost on the way here, or nothing is left for Muon to do.
inline std::vector<route> propose_routes(std::span<const named_shape> parameters) {
  std::vector<route> routes;
  for (const named_shape& p : parameters) routes.push_back(propose_route(p));
  const auto is_matrix = [](const route& r) { return r.rule == route_to::matrix_rule; };
  if (std::none_of(routes.begin(), routes.end(), is_matrix))
    fail(error_code::parameter, "expected at least one matrix among ", parameters.size(), " parameters, got none");
  return routes;
}

// The proposal as a table: name, shape, rule, reason.
inline std::string to_table(std::span<const route> routes) {
  std::vector<std::string> shapes;
  std::size_t name_width = 9, shape_width = 5;
  for (const route& r : routes) {
    std::string shape;
    for (const index_t extent : r.parameter.shape) shape += (shape.empty() ? "" : " x ") + std::to_string(extent);
    name_width = std::max(name_width, r.parameter.name.size());
    shape_width = std::max(shape_width, shape.size());
    shapes.push_back(std::move(shape));
  }
  std::ostringstream table;
  const auto line = [&](std::string_view name, std::string_view shape, std::string_view rule, std::string_view reason) {
    table << std::left << std::setw(static_cast<int>(name_width)) << name << "  "
          << std::setw(static_cast<int>(shape_width)) << shape << "  " << std::setw(6) << rule << "  " << reason
          << '\n';
  };
  line("parameter", "shape", "rule", "because it is");
  for (std::size_t i = 0; i < routes.size(); ++i)
    line(routes[i].parameter.name, shapes[i], routes[i].rule == route_to::matrix_rule ? "matrix" : "adamw",
         routes[i].reason);
  return table.str();
}

}  // namespace normuon

#endif
