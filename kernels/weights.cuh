// How kernels read weights and write them, or their change: see `low_bits` of the concept.
#ifndef NORMUON_KERNELS_WEIGHTS_CUH
#define NORMUON_KERNELS_WEIGHTS_CUH

#include "walk.cuh"

namespace normuon {

// Of matrix i of a run. `keeps`: false where the operation has no low bits, and nothing is left of this but a pass.
// `master` and `numbers` are walked as the weight is: the second is a view whose element (i, j) lies at its number in
// the tensor, and whose data is no memory, but null where nothing is rounded by chance.
template <class Real, bool keeps>
struct weight_access {
  matrix_view master, numbers;
  random_stream stream;
  std::uint64_t step = 0;

  __device__ weight_access(const run_of_work& work, const low_bits_tables& low, index_t i, const matrix_view& W) {
    if (!keeps) return;
    if (!low.masters.empty()) master = entry(work, low.masters, i);
    if (low.streams.empty()) return;
    stream = entry(work, low.streams, i);
    step = static_cast<std::uint64_t>(*entry(work, low.steps, i));
    numbers = W;
    numbers.row_stride = stream.across, numbers.col_stride = 1;
  }

  // A piece of W, or of its master where that is its own.
  __device__ void read(const matrix_view& W, const matrix_view& beside, const place& at, Real (&w)[piece]) const {
    read_piece(W, at, w);
    if (!keeps || !beside.data) return;
    Real m[piece];
    read_piece(beside, at, m);
    const auto begin = [&]<class T>(T) {
      for (int k = 0; k < piece; ++k) w[k] = where_step_begins(m[k], static_cast<T>(w[k]));
    };
    switch (W.type) {
      case element_type::float64: return begin(double{});
      case element_type::float32: return begin(float{});
      case element_type::bfloat16: return begin(bfloat16{});
      default: return begin(float16{});
    }
  }

  // Writes a piece where it goes, and to the master before it is rounded.
  __device__ void write(const matrix_view& out, const matrix_view& beside, const matrix_view& elements, const place& at,
                        Real (&w)[piece]) const {
    if (keeps && beside.data) write_piece(beside, at, w);
    if (keeps && elements.data) {
      const index_t first = stream.first + at.i * elements.row_stride + at.j * elements.col_stride;
      if (out.type == element_type::bfloat16) round_by_chance<bfloat16>(first, elements.col_stride, w);
      if (out.type == element_type::float16) round_by_chance<float16>(first, elements.col_stride, w);
    }
    write_piece(out, at, w);
  }

 private:
  template <class T>
  __device__ void round_by_chance(index_t first, index_t apart, Real (&w)[piece]) const {
    index_t block = -1;
    random_block random = {};
    for (int k = 0; k < piece; ++k) {
      const index_t e = first + k * apart;
      if (e / random_block_length != block) random = random_bits(stream.key, step, block = e / random_block_length);
      const int word = static_cast<int>(e % random_block_length);  // no index, which would need memory
      const std::uint32_t low = word % 2 == 0 ? random[0] : random[1], high = word % 2 == 0 ? random[2] : random[3];
      w[k] = static_cast<Real>(stochastically_rounded<T>(w[k], word < 2 ? low : high));
    }
  }
};

}  // namespace normuon

#endif
