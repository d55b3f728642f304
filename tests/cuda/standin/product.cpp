// The product in plain loops. Sums are in float (in double for double), in an order of k that depends on the algorithm
// alone, and one rounding leads to the type of D.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cublas_lt.hpp"
#include "normuon/element_types.hpp"

namespace standin {
namespace {

using offset = std::int64_t;

template <class Real>
Real load(const char* p, cudaDataType type) {
  const auto as = [p](auto value) {
    std::memcpy(&value, p, sizeof value);
    return value;
  };
  if (type == CUDA_R_64F) return static_cast<Real>(as(double{}));
  if (type == CUDA_R_32F) return as(float{});
  std::uint16_t bits = as(std::uint16_t{});
  return type == CUDA_R_16BF ? float{normuon::bfloat16::from_bits(bits)} : float{normuon::float16::from_bits(bits)};
}

template <class Real>
void store(char* p, Real x, cudaDataType type) {
  const auto as = [p](auto value) { std::memcpy(p, &value, sizeof value); };
  if (type == CUDA_R_64F) as(static_cast<double>(x));
  else if (type == CUDA_R_32F) as(static_cast<float>(x));
  else if (type == CUDA_R_16BF) as(normuon::bfloat16(x).bits());
  else as(normuon::float16(x).bits());
}

// To 10 explicit bits of significand. How is promised nowhere, so the rest is cut off, which errs most.
float to_tf32(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) return x;
  return std::bit_cast<float>(bits & ~0x1fffu);
}

// op(X), of rows x cols, with each column contiguous.
template <class Real>
std::vector<Real> unpacked(const char* x, const layout_state& l, bool transposed, bool tf32) {
  const auto rows = static_cast<offset>(l.rows), cols = static_cast<offset>(l.cols);
  const auto unit = static_cast<offset>(element_bytes(l.type));
  std::vector<Real> out(static_cast<std::size_t>(rows * cols));
  for (offset j = 0; j < cols; ++j)
    for (offset i = 0; i < rows; ++i) {
      Real value = load<Real>(x + (j * l.ld + i) * unit, l.type);
      if constexpr (sizeof(Real) == 4) value = tf32 ? to_tf32(value) : value;
      out[static_cast<std::size_t>(transposed ? i * cols + j : j * rows + i)] = value;
    }
  return out;
}

struct part {
  offset from, to;  // of k
};

// Parts of k whose sums are made one by one and then added.
std::vector<part> parts_of(const product& p, algorithm a) {
  const offset pieces = a == algorithm::aligned     ? (p.k + 31) / 32  // tiles of 32
                        : a == algorithm::workspace ? std::min<offset>(2, p.k)
                                                    : traits_of(a).splits;
  std::vector<part> parts;
  for (offset i = 0; i < pieces; ++i) parts.push_back({i * p.k / pieces, (i + 1) * p.k / pieces});
  if (a == algorithm::split_k_in_place) shuffle(parts);  // whichever is ready first
  return parts;
}

// Adds columns j to j + width of op(A) op(B), summed over a part of k, to `sums`.
template <class Real>
void add_part(const product& p, part range, const Real* a, const Real* b, offset j, offset width, Real* sums) {
  for (offset k = range.from; k < range.to; ++k)
    for (offset c = 0; c < width; ++c) {
      const Real factor = b[(j + c) * p.k + k];
      const Real* column = a + k * p.m;
      Real* sum = sums + c * p.m;
      for (offset i = 0; i < p.m; ++i) sum[i] += column[i] * factor;
    }
}

template <class Real>
void compute_as(const product& p, algorithm chosen, const product_data& data) {
  constexpr offset width = 4;
  const bool tf32 = p.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  const bool in_place = traits_of(chosen).reduction == CUBLASLT_REDUCTION_SCHEME_INPLACE;
  const auto in = static_cast<offset>(element_bytes(p.in)), out = static_cast<offset>(element_bytes(p.out));
  const auto alpha = static_cast<Real>(data.alpha), beta = static_cast<Real>(data.beta);
  const std::vector<part> parts = parts_of(p, chosen);
  const auto round = [&](Real x) {
    char bytes[8];
    store(bytes, x, p.out);
    return load<Real>(bytes, p.out);
  };
  std::vector<Real> sums(static_cast<std::size_t>(width * p.m)), one(sums.size());
  for (offset l = 0; l < p.batch; ++l) {
    const auto a = unpacked<Real>(data.a + l * p.a.stride * in, p.a, p.transpose_a, tf32);
    const auto b = unpacked<Real>(data.b + l * p.b.stride * in, p.b, p.transpose_b, tf32);
    const char* C = data.c + l * p.c.stride * out;
    char* D = data.d + l * p.d.stride * out;
    for (offset j = 0; j < p.n; j += width) {
      const offset columns = std::min(width, p.n - j);
      for (std::size_t part_number = 0; part_number < parts.size(); ++part_number) {
        std::fill(one.begin(), one.end(), Real(0));
        add_part(p, parts[part_number], a.data(), b.data(), j, columns, one.data());
        for (std::size_t i = 0; i < sums.size(); ++i) sums[i] = part_number == 0 ? one[i] : sums[i] + one[i];
        if (in_place) std::transform(sums.begin(), sums.end(), sums.begin(), round);
      }
      for (offset c = 0; c < columns; ++c)
        for (offset i = 0; i < p.m; ++i) {
          Real result = alpha * sums[static_cast<std::size_t>(c * p.m + i)];
          if (beta != Real(0)) result += beta * load<Real>(C + ((j + c) * p.c.ld + i) * out, p.out);
          store(D + ((j + c) * p.d.ld + i) * out, result, p.out);
        }
    }
  }
}

}  // namespace

void compute(const product& p, algorithm a, const product_data& data) {
  if (p.in == CUDA_R_64F) compute_as<double>(p, a, data);
  else compute_as<float>(p, a, data);
}

}  // namespace standin
