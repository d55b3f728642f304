// What a checkpoint says about an optimizer besides its description: its tensors, and what steps may change, which is
// brought back.
#ifndef NORMUON_IO_CHECKPOINT_DESCRIPTION_HPP
#define NORMUON_IO_CHECKPOINT_DESCRIPTION_HPP

#include <string>
#include <vector>

#include "normuon/io/checkpoint/plan.hpp"
#include "normuon/optimizer/description.hpp"

namespace normuon {

inline constexpr const char* now_prefix = "now.";  // before numbers as steps have them, in place of those given
inline constexpr const char* weight_suffix = ".weight";
inline constexpr std::string_view number_fields[] = {
    "learning_rate", "momentum", "beta2", "weight_decay", "learning_rate_factor", "weight_decay_factor"};

// What steps may change, and is brought back.
template <tensor_backend B>
described_fields describe_progress(registry<B>& opt, index_t step) {
  described_fields all{{"step", std::to_string(step)}, {"gradient_scale", text_of(opt.gradient_scale())}};
  for (std::size_t i = 0; i < opt.groups().size(); ++i)
    for (auto& [field, text] : numbers_of(opt.groups()[i].numbers()))
      all.push_back({group_key(i) + now_prefix + field, text});
  for (const parameter<B>& p : opt.parameters())
    if (p.frozen) all.push_back({"frozen." + p.name, "true"});
  return all;
}

constexpr safetensors::dtype stored_type(element_type type) {
  switch (type) {
    case element_type::float64: return safetensors::dtype::f64;
    case element_type::float32: return safetensors::dtype::f32;
    case element_type::bfloat16: return safetensors::dtype::bf16;
    case element_type::float16: return safetensors::dtype::f16;
  }
  fail(error_code::parameter, "expected an element type, got the value ", static_cast<int>(type));
}

// For messages: "F32 [2, 3]".
inline std::string text_of(const logical_tensor& t) {
  return std::string(safetensors::facts_of(t.type).name) + " " + shape_text(t.shape);
}

// A weight as a tensor: m x n, of a batch b x m x n.
template <tensor_backend B>
logical_tensor weight_tensor(const parameter<B>& p) {
  logical_tensor t{p.name + weight_suffix, stored_type(p.type), {p.rows, p.cols}};
  if (p.batch != 1) t.shape.insert(t.shape.begin(), p.batch);
  return t;
}

// The tensors of an optimizer's state, and its weights where they are asked for: of all ranks together.
template <tensor_backend B>
std::vector<logical_tensor> logical_tensors(const registry<B>& opt, bool weights) {
  std::vector<logical_tensor> all;
  for (const parameter<B>& p : opt.parameters()) {
    for (listed_tensor& t : whole_state(p, opt.groups()[static_cast<std::size_t>(p.group)]))
      all.push_back({std::move(t.name), stored_type(t.type), std::move(t.shape)});
    if (weights) all.push_back(weight_tensor(p));
  }
  return all;
}

}  // namespace normuon

#endif
