// What a user may bind: checks of the views that become weights, gradients and change buffers.
#ifndef NORMUON_OPTIMIZER_BINDING_HPP
#define NORMUON_OPTIMIZER_BINDING_HPP

#include <algorithm>
#include <array>
#include <string>

#include "normuon/optimizer/parameter.hpp"
#include "normuon/shards/sharded_ref.hpp"

namespace normuon {

// For messages: "3 x 4", or "2 of 3 x 4" where it is no single matrix.
inline std::string sizes_text(index_t rows, index_t cols, index_t batch) {
  return batch == 1 ? message_of(rows, " x ", cols) : message_of(batch, " of ", rows, " x ", cols);
}
inline std::string sizes_of(const bound_matrix& m) { return sizes_text(m.first.rows, m.first.cols, m.batch); }

// For messages: the types of weights and gradients that a backend takes.
template <tensor_backend B>
std::string types_taken_by() {
  std::string list;
  for (const element_type type :
       {element_type::float64, element_type::float32, element_type::bfloat16, element_type::float16})
    if (B::takes(type)) list += (list.empty() ? "" : ", ") + std::string(name_of(type));
  return list;
}

// What a view is bound as: where it is kept, a word for messages, the error of a view that can't be taken, and whether
// a step writes it.
struct binding_kind {
  bound_matrix parameter_part::*member;
  std::string_view what;
  error_code code;
  bool written;
};
inline constexpr binding_kind weight_binding{&parameter_part::weight, "weight", error_code::parameter, true},
    gradient_binding{&parameter_part::gradient, "gradient", error_code::gradient, false},
    change_binding{&parameter_part::change, "change", error_code::gradient, true};

// The steps by which a view that has elements is walked: from row to row, column to column and matrix to matrix, of 0
// where there is only one.
class view_walk {
 public:
  explicit view_walk(const bound_matrix& m)
      : size_(static_cast<index_t>(size_of(m.first.type))),
        steps_{step{m.first.rows, m.first.row_stride}, {m.first.cols, m.first.col_stride}, {m.batch, m.batch_stride}} {
    for (step& s : steps_)
      if (s.count == 1) s.stride = 0;
  }

  // Whether the way from the first element to any other fits 64 bits, in bytes.
  bool fits() const {
    index_t all = size_, bytes = 0;
    for (const step& s : steps_)
      if (__builtin_mul_overflow(s.count - 1, s.stride, &bytes) ||
          __builtin_mul_overflow(bytes, bytes < 0 ? -size_ : size_, &bytes) || __builtin_add_overflow(all, bytes, &all))
        return false;
    return true;
  }
  // Whether every stride is longer than all that the shorter ones span, in a walk that fits: then no two elements share
  // memory, also where matrices or their rows are interleaved.
  bool is_apart() const {
    auto steps = steps_;
    const auto length = [](const step& s) { return s.stride < 0 ? -s.stride : s.stride; };
    std::sort(steps.begin(), steps.end(), [&](const step& a, const step& b) { return length(a) < length(b); });
    index_t span = 0;
    for (const step& s : steps) {
      if (s.count > 1 && length(s) <= span) return false;
      span += (s.count - 1) * length(s);
    }
    return true;
  }

 private:
  struct step {
    index_t count, stride;
  };
  index_t size_;
  std::array<step, 3> steps_;
};

// For messages: "strides of 4 and 1", and of a batch how far its matrices are apart.
inline std::string strides_of(const bound_matrix& m) {
  const std::string of_one = message_of("strides of ", m.first.row_stride, " and ", m.first.col_stride);
  return m.batch == 1 ? of_one : message_of(of_one, ", and ", m.batch_stride, " from matrix to matrix");
}

// Throws where `m` can't be walked: negative sizes, no memory, sizes or strides beyond 64 bits, or, if it is written,
// elements that share memory.
inline void validate_view(const std::string& name, const binding_kind& as, const bound_matrix& m) {
  const auto refuse = [&](const auto&... why) { fail(as.code, as.what, " of '", name, "': ", why...); };
  const matrix_view& v = m.first;
  if (v.rows < 0 || v.cols < 0 || m.batch < 0) refuse("expected sizes >= 0, got ", sizes_of(m));
  index_t elements = 0, bytes = 0;
  if (__builtin_mul_overflow(v.rows, v.cols, &elements) || __builtin_mul_overflow(elements, m.batch, &elements) ||
      __builtin_mul_overflow(elements, index_t{16}, &bytes))
    refuse("expected sizes that fit 64 bits, got ", sizes_of(m));
  if (elements == 0) return;
  if (v.data == nullptr) refuse("expected memory for ", elements, " elements, got a null pointer");
  if (!view_walk(m).fits()) refuse("expected elements within 64 bits of each other, got ", strides_of(m));
  if (as.written && !view_walk(m).is_apart()) refuse("expected elements of their own, got ", strides_of(m));
}

// The same, and throws where it is of a type that the backend does not take, has not the sizes of the part, or begins
// where something else begins that is bound to the part: a step reads one and writes the other.
template <tensor_backend B>
void validate_binding(const std::string& name, const parameter_part& part, const binding_kind& as,
                      const bound_matrix& m) {
  validate_view(name, as, m);
  const auto refuse = [&](const auto&... why) { fail(as.code, as.what, " of '", name, "': ", why...); };
  if (!B::takes(m.first.type)) refuse("expected one of ", types_taken_by<B>(), ", got ", name_of(m.first.type));
  const bound_matrix& w = part.weight;
  if (m.first.rows != w.first.rows || m.first.cols != w.first.cols || m.batch != w.batch)
    refuse("expected ", sizes_of(w), ", got ", sizes_of(m));
  for (const binding_kind& other : {weight_binding, gradient_binding, change_binding})
    if (const bound_matrix& bound = part.*other.member;
        other.member != as.member && bound.elements() != 0 && bound.first.data == m.first.data)
      refuse("expected memory of its own, got that of the ", other.what);
}

// The views of a user in the order of the rectangles that they show.
template <class T>
std::vector<bound_matrix> bound_parts(const sharded_ref<T>& ref) {
  return {ref.parts.begin(), ref.parts.end()};
}

// Throws where the views are not of matrices of the same sizes, cut the same way.
template <class T>
void require_same_cut(std::string_view name, const binding_kind& as, const layout& how, index_t rows, index_t cols,
                      index_t batch, const sharded_ref<T>& ref) {
  if (ref.how != how || ref.rows != rows || ref.cols != cols || ref.batch != batch)
    fail(as.code, as.what, " of '", name, "': expected parts of ", sizes_text(rows, cols, batch), " under '",
         how.text(), "', got parts of ", sizes_text(ref.rows, ref.cols, ref.batch), " under '", ref.how.text(), "'");
}

// The parts of a parameter that the views show. Throws where they are not one for each rectangle that the layout gives
// the rank, and of its sizes, or the layout can't be.
inline std::vector<parameter_part> parts_of(const std::string& name, const layout& how, index_t rows, index_t cols,
                                            index_t batch, int rank, int ranks, std::span<const bound_matrix> weights) {
  const auto refuse = [&](const auto&... why) { fail(error_code::parameter, "weight of '", name, "': ", why...); };
  index_t elements = 0;
  if (rows < 0 || cols < 0 || batch < 0 || __builtin_mul_overflow(rows, cols, &elements) ||
      __builtin_mul_overflow(elements, batch, &elements) || __builtin_mul_overflow(elements, index_t{16}, &elements))
    refuse("expected sizes >= 0 that fit 64 bits, got ", sizes_text(rows, cols, batch));
  how.check(name, rows, cols, ranks);
  const rectangle_list held = how.rectangles(rows, cols, rank, ranks);
  if (weights.size() != held.size())
    refuse("expected ", held.size(), " views, one for each rectangle that rank ", rank, " of ", ranks, " holds under '",
           how.text(), "', got ", weights.size());
  std::vector<parameter_part> parts;
  index_t before = 0;
  for (std::size_t k = 0; k < held.size(); ++k) {
    const bound_matrix& w = weights[k];
    if (w.first.rows != held[k].rows || w.first.cols != held[k].cols || w.batch != batch)
      refuse("expected ", sizes_text(held[k].rows, held[k].cols, batch), " in part ", k, ", got ", sizes_of(w));
    parts.push_back({.where = held[k], .weight = w, .before = before});
    before += w.elements();
  }
  return parts;
}

// Binds a view for each part, or none. Throws as validate_binding does, and where they are not as many. Returns whether
// what is written has another type from now on, which recorded steps depend on.
template <tensor_backend B>
bool bind_parts(parameter<B>& p, const binding_kind& as, std::span<const bound_matrix> given) {
  if (given.size() != p.parts.size())
    fail(as.code, as.what, " of '", p.name, "': expected ", p.parts.size(), " views, got ", given.size());
  for (std::size_t k = 0; k < given.size(); ++k) validate_binding<B>(p.name, p.parts[k], as, given[k]);
  bool changed = false;
  for (std::size_t k = 0; k < given.size(); ++k) {
    bound_matrix& bound = p.parts[k].*as.member;
    changed |= as.written && bound.batch != 0 && bound.first.type != given[k].first.type;
    bound = given[k];
  }
  return changed;
}

}  // namespace normuon

#endif
