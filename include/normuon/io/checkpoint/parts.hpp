// What of a checkpoint's tensors is a rank's to write and to read: its parts of weights and state.
#ifndef NORMUON_IO_CHECKPOINT_PARTS_HPP
#define NORMUON_IO_CHECKPOINT_PARTS_HPP

#include "normuon/io/checkpoint/description.hpp"
#include "normuon/io/checkpoint/matrices.hpp"
#include "normuon/io/checkpoint/reader.hpp"
#include "normuon/optimizer.hpp"
#include "normuon/optimizer/together.hpp"

namespace normuon {

// Calls f(rectangle, place) for the parts of a tensor of which `shape` begins at `start`: one, or one for each matrix
// of a batch. place: of its first element among those of `shape`. Empty `start`: at its beginning.
template <class F>
void for_each_rectangle(const placed_tensor& t, const std::vector<index_t>& shape, const std::vector<index_t>& start,
                        F&& f) {
  if (start.empty()) return f(t.whole(), index_t{0});
  const std::size_t last = shape.size() - 1;
  const index_t cols = shape[last], rows = last == 0 ? 1 : shape[last - 1], first_row = last == 0 ? 0 : start[last - 1];
  const index_t batch = last < 2 ? 1 : shape[0], first = last < 2 ? 0 : start[0];
  const index_t rows_of_one = last < 2 ? 0 : t.shape[1];
  for (index_t b = 0; b < batch; ++b)
    f(tensor_rectangle{(first + b) * rows_of_one + first_row, start[last], rows, cols}, b * rows * cols);
}

// Whether this rank writes a tensor of which every rank that holds the parameter may have a copy: the lowest does.
template <tensor_backend B>
bool writes_copies(const parameter<B>& p, int rank) {
  return rank == 0 || !p.how.is_replicated();
}

// Writes what this rank keeps of a parameter's state and nobody below it keeps too.
template <class System, tensor_backend B, shard_engine Engine>
void write_state_parts(checkpoint_writer<System>& writer, optimizer<B, Engine>& opt, const parameter<B>& p) {
  const int rank = opt.engine().rank();
  const bool owner_has_second = opt.groups()[static_cast<std::size_t>(p.group)].is_matrix_rule();
  for (const named_tensor& t : opt.export_state(p.name)) {
    const bool is_step = t.name.ends_with(".step"), is_second = t.name.ends_with(".second_moment");
    if (is_step ? rank != 0 : !(is_second && owner_has_second) && !writes_copies(p, rank)) continue;
    const std::size_t i = writer.plan().find(t.name);
    const placed_tensor& place = writer.plan().tensors()[i];
    const bool narrow = place.type == safetensors::dtype::f32;
    const std::vector<float> floats(t.values.begin(), narrow ? t.values.end() : t.values.begin());
    for_each_rectangle(place, t.shape, t.start, [&](const tensor_rectangle& r, index_t first) {
      if (r.rows == 0 || r.cols == 0) return;
      const void* const from = narrow ? static_cast<const void*>(floats.data() + first) : t.values.data() + first;
      writer.write(i, r, from, r.cols, 1);
    });
  }
}

// Calls f(rectangle, view) for every matrix of every part of a weight.
template <tensor_backend B, class F>
void for_each_weight_part(const parameter<B>& p, F&& f) {
  for (const parameter_part& part : p.parts)
    for (index_t b = 0; b < p.batch; ++b)
      f(tensor_rectangle{b * p.rows + part.where.row, part.where.col, part.where.rows, part.where.cols},
        part.weight.one(b));
}
inline std::size_t bytes_of_view(const matrix_view& v) {
  return static_cast<std::size_t>(v.rows * v.cols) * size_of(v.type);
}

template <class System, tensor_backend B>
void write_weight_parts(checkpoint_writer<System>& writer, B& b, const parameter<B>& p, int rank) {
  if (!writes_copies(p, rank)) return;
  const std::size_t i = writer.plan().find(p.name + weight_suffix);
  for_each_weight_part(p, [&](const tensor_rectangle& r, const matrix_view& v) {
    if (bytes_of_view(v) == 0) return;
    std::vector<std::byte> bytes(bytes_of_view(v));
    read_matrix(b, bytes.data(), v);
    writer.write(i, r, bytes.data(), v.cols, 1);
  });
}

// The elements of a weight's parts, one behind the other.
template <class System, tensor_backend B>
std::vector<std::byte> read_weight_parts(checkpoint_reader<System>& reader, const parameter<B>& p) {
  const std::size_t i = reader.index_of(p.name + weight_suffix);
  std::vector<std::byte> all;
  for_each_weight_part(p, [&](const tensor_rectangle& r, const matrix_view& v) {
    const std::size_t before = all.size();
    all.resize(before + bytes_of_view(v));
    if (all.size() != before) reader.read(i, r, all.data() + before, v.cols, 1);
  });
  return all;
}
template <tensor_backend B>
void write_into_weight(B& b, const parameter<B>& p, const std::vector<std::byte>& elements) {
  std::size_t next = 0;
  for_each_weight_part(p, [&](const tensor_rectangle&, const matrix_view& v) {
    if (bytes_of_view(v) != 0) write_matrix(b, v, elements.data() + next);
    next += bytes_of_view(v);
  });
}

template <class System>
named_tensor read_state_part(checkpoint_reader<System>& reader, listed_tensor t) {
  const std::size_t i = reader.index_of(t.name);
  const placed_tensor& place = reader.plan().tensors()[i];
  std::vector<std::byte> bytes(t.count() * place.element_size());
  for_each_rectangle(place, t.shape, t.start, [&](const tensor_rectangle& r, index_t first) {
    if (r.rows != 0 && r.cols != 0)
      reader.read(i, r, bytes.data() + static_cast<std::size_t>(first) * place.element_size(), r.cols, 1);
  });
  std::vector<double> values = safetensors::values<double>({place.type, t.shape, std::move(bytes)});
  return {std::move(t.name), std::move(t.shape), std::move(values), std::move(t.start), std::move(t.whole)};
}

}  // namespace normuon

#endif
