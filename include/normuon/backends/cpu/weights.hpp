// How passes read the weights of a matrix and write them, or their change: see `low_bits` of the concept.
#ifndef NORMUON_BACKENDS_CPU_WEIGHTS_HPP
#define NORMUON_BACKENDS_CPU_WEIGHTS_HPP

#include "normuon/backend.hpp"
#include "normuon/backends/cpu/bands.hpp"
#include "normuon/backends/cpu/lines.hpp"

namespace normuon {

// The random numbers of elements first, first + apart, ... of a tensor in a step, at the address that is returned.
using random_buffer = std::uint32_t[(chunk_length + 2) * random_block_length];
inline const std::uint32_t* random_numbers(random_buffer& buffer, std::uint64_t key, std::uint64_t step, index_t first,
                                           index_t apart, index_t n) {
  constexpr index_t length = random_block_length;
  if (apart == 1) {  // whole blocks
    const index_t ahead = first % length;
    vectorized([=, to = &buffer[0]] {
      for (index_t k = 0; k < ahead + n; k += length)
        std::copy_n(random_bits(key, step, (first + k) / length).data(), length, to + k);
    });
    return buffer + ahead;
  }
  if (apart % length == 0) {  // one number of each block
    vectorized([=, to = &buffer[0]] {
      for (index_t k = 0; k < n; ++k)
        std::copy_n(random_bits(key, step, first / length + k * (apart / length)).data(), length, to + k * length);
      for (index_t k = 0; k < n; ++k) to[k] = to[k * length + first % length];
    });
    return buffer;
  }
  for (index_t k = 0; k < n; ++k) {
    const index_t e = first + k * apart;
    buffer[k] = random_bits(key, step, e / length)[static_cast<std::size_t>(e % length)];
  }
  return buffer;
}

// Rounds n numbers by chance to `type`, one of 16 bits.
template <class Real>
[[gnu::noinline]] void round_by_chance(element_type type, Real* x, const std::uint32_t* random, index_t n) {
  const auto round = [&]<element T>(T) {
    vectorized([=] {
      for (index_t k = 0; k < n; ++k) x[k] = static_cast<Real>(stochastically_rounded<T>(x[k], random[k]));
    });
  };
  if (type == element_type::bfloat16) round(bfloat16());
  else round(float16());
}

// Replaces numbers that were read from a matrix of `type` by their masters, where those are theirs.
template <class Real>
[[gnu::noinline]] void begin_at_masters(element_type type, Real* begins, const Real* weights, const Real* masters,
                                        index_t n) {
  with_element_type(type, [&]<element T>(T) {
    for (index_t k = 0; k < n; ++k) begins[k] = where_step_begins(masters[k], static_cast<T>(weights[k]));
  });
}

template <class Real>
class weight_access {
 public:
  // Of the part of matrix i of a run that begins with the first of `lines`.
  weight_access(const low_bits& low, std::size_t i, const band& lines) : is_turned_(lines.of_columns) {
    if (!low.masters.empty()) master_ = part(low.masters[i], lines);
    if (low.streams.empty()) return;
    stream_ = low.streams[i];
    stream_.first = is_turned_ ? stream_.element(0, lines.first) : stream_.element(lines.first, 0);
    step_ = static_cast<std::uint64_t>(*low.steps[i]);
    by_chance_ = true;
  }

  // Whether weights, walked in that order, are changed where they lie, with no low bits to keep.
  [[gnu::always_inline]] bool in_place(const line_order& order, const matrix_view& w, const matrix_view& out) const {
    const bool same =
        out.data == w.data && out.type == w.type && out.row_stride == w.row_stride && out.col_stride == w.col_stride;
    return same && !master_.data && is_array_of<Real>({w, order, 0, 0, 0});
  }

  // Where the step of a segment of the weight begins, to be changed into where it ends and given to `write` for `out`:
  // in place where `out` is the weight itself, else in `buffer`.
  [[gnu::always_inline]] Real* open(const segment& w, const segment& out, chunk<Real>& buffer) const {
    if (in_place(w.order, w.view, out.view)) return w.start<Real>();
    copy_begin(w, buffer);
    return buffer;
  }

  // Writes where it ends. `x` may be changed.
  [[gnu::always_inline]] void write(const segment& out, Real* x) const {
    if (master_.data || by_chance_) write_low_bits(out, x);
    normuon::write<Real>(out, x);
  }

 private:
  [[gnu::noinline]] void copy_begin(const segment& w, chunk<Real>& buffer) const {
    const Real* const weights = normuon::read<Real>(w, buffer);
    if (master_.data) {
      chunk<Real> master_buffer;
      const Real* masters = normuon::read<Real>({master_, w.order, w.line, w.first, w.n}, master_buffer);
      begin_at_masters(w.view.type, static_cast<Real*>(buffer), weights, masters, w.n);
    } else if (weights != buffer) {
      std::copy_n(weights, w.n, static_cast<Real*>(buffer));
    }
  }

  // Writes masters, and rounds numbers by chance to what `out` holds.
  [[gnu::noinline]] void write_low_bits(const segment& out, Real* x) const {
    if (master_.data) normuon::write<Real>({master_, out.order, out.line, out.first, out.n}, x);
    if (by_chance_ && size_of(out.view.type) == 2) {
      const bool by_rows = out.order.by_rows != is_turned_;  // of the tensor whose elements are numbered
      const index_t first = by_rows ? stream_.element(out.line, out.first) : stream_.element(out.first, out.line);
      random_buffer buffer;
      round_by_chance(out.view.type, x,
                      random_numbers(buffer, stream_.key, step_, first, by_rows ? 1 : stream_.across, out.n), out.n);
    }
  }

  matrix_view master_;
  random_stream stream_;
  std::uint64_t step_ = 0;
  bool by_chance_ = false;
  bool is_turned_ = false;  // the matrix is walked as its transpose
};

}  // namespace normuon

#endif
