// Entry point of cuBLASLt: cublasLtMatmul, which refuses all that the documentation does not allow, and puts the
// product into the stream. Quotes are from cublasLt.h and from the cuBLAS guide's section on cublasLtMatmul.
#include <algorithm>
#include <cstring>

#include "capture.hpp"
#include "cublas_lt.hpp"
#include "memory.hpp"
#include "queue.hpp"

namespace standin {
namespace {

using offset = std::int64_t;
constexpr offset most = 2147483647;  // "Usually only values that can be expressed as int32_t are supported"

struct type_row {
  cublasComputeType_t compute;
  cudaDataType scale, in, out;
};
// The rows of the table of cublasLtMatmul that the backend has a use for.
constexpr type_row supported[] = {
    {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_16BF},
    {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_32F},
    {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16F, CUDA_R_16F},
    {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16F, CUDA_R_32F},
    {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F},
    {CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F},
    {CUBLAS_COMPUTE_64F, CUDA_R_64F, CUDA_R_64F, CUDA_R_64F},
};

void must_be_layout(const layout_state& l, char name) {
  if (l.order != CUBLASLT_ORDER_COL) refuse(CUBLAS_STATUS_NOT_SUPPORTED, name, " is not column-major");
  if (l.rows == 0 || l.cols == 0) refuse(CUBLAS_STATUS_NOT_SUPPORTED, name, " is empty");
  if (l.rows > most || l.cols > most)
    refuse(CUBLAS_STATUS_NOT_SUPPORTED, name, " has more than 2^31 - 1 rows or columns");
  // "must be large enough so that matrix memory locations are not overlapping" (CUBLASLT_MATRIX_LAYOUT_LD).
  if (l.ld < static_cast<offset>(l.rows))
    refuse(CUBLAS_STATUS_INVALID_VALUE, name, " has ", l.rows, " rows and the leading dimension ", l.ld);
  if (l.batch < 1 || l.stride < 0)
    refuse(CUBLAS_STATUS_INVALID_VALUE, name, " has a batch of ", l.batch, ", stride ", l.stride);
}

// The elements of one operand as addresses in bytes.
struct area {
  offset begin, element, rows, cols, ld, batch, stride;

  area(const void* p, const layout_state& l)
      : begin(static_cast<offset>(reinterpret_cast<std::uintptr_t>(p))),
        element(static_cast<offset>(element_bytes(l.type))),
        rows(static_cast<offset>(l.rows) * element),
        cols(static_cast<offset>(l.cols)),
        ld(l.ld * element),
        batch(l.batch),
        stride(l.batch > 1 ? l.stride * element : 0) {}
  offset one() const { return (cols - 1) * ld + rows; }  // from the first to behind the last byte of a matrix
  offset bytes() const { return (batch - 1) * stride + one(); }
};

bool apart(offset a, offset a_bytes, offset b, offset b_bytes) { return a + a_bytes <= b || b + b_bytes <= a; }

// Whether a column of `bytes` bytes at `begin` meets matrix number i of y.
bool meets(offset begin, offset bytes, const area& y, offset i) {
  const offset first = y.begin + i * y.stride;
  if (apart(begin, bytes, first, y.one())) return false;
  const offset before = begin - first - y.rows;  // columns that begin so far behind first, or less, end before `begin`
  const offset column = before < 0 ? 0 : before / y.ld + 1;
  return first + column * y.ld < begin + bytes;
}

bool overlap(const area& x, const area& y) {
  if (apart(x.begin, x.bytes(), y.begin, y.bytes())) return false;
  for (offset i = 0; i < x.batch; ++i)
    for (offset c = 0; c < x.cols; ++c)
      for (offset j = 0; j < y.batch; ++j)
        if (meets(x.begin + i * x.stride + c * x.ld, x.rows, y, j)) return true;
  return false;
}

// Whether two matrices of a batch have an element in common: only how far they are apart counts.
bool overlaps_itself(const area& x) {
  for (offset i = 1; i < x.batch; ++i)
    for (offset c = 0; c < x.cols; ++c)
      if (meets(x.begin + c * x.ld, x.rows, x, i)) return true;
  return false;
}

// Where the operand lies must be device memory of the handle's device, all of it in one allocation.
void must_be_device_memory(const void* p, offset bytes, int device, const char* name) {
  if (p == nullptr) refuse(CUBLAS_STATUS_INVALID_VALUE, name, " is null");
  try {
    if (holder_of(p, static_cast<std::size_t>(bytes)).device == device) return;
  } catch (const device_fault& f) {
    refuse(CUBLAS_STATUS_INVALID_VALUE, name, ": ", f.why);
  }
  refuse(CUBLAS_STATUS_INVALID_VALUE, name, " is not of memory of device ", device);
}

void must_be_aligned(const void* p, std::size_t alignment, const char* name) {
  if (reinterpret_cast<std::uintptr_t>(p) % alignment != 0)
    refuse(CUBLAS_STATUS_NOT_SUPPORTED, name, " is not aligned to ", alignment, " bytes, as the algorithm demands");
}

double read_scalar(const void* p, cudaDataType scale, const char* name) {
  if (p == nullptr) refuse(CUBLAS_STATUS_INVALID_VALUE, name, " is null");
  if (in_device_space(p)) refuse(CUBLAS_STATUS_INVALID_VALUE, name, " is in device memory, in host pointer mode");
  if (scale == CUDA_R_64F) {
    double value;
    std::memcpy(&value, p, sizeof value);
    return value;
  }
  float value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

}  // namespace

std::size_t element_bytes(cudaDataType type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }

// CUBLAS_STATUS_INVALID_VALUE "if parameters are in conflict or in an impossible configuration",
// CUBLAS_STATUS_NOT_SUPPORTED "if current implementation on selected device doesn't support configured operation"
// (cublasLtMatmul).
product described(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t B,
                  cublasLtMatrixLayout_t C, cublasLtMatrixLayout_t D) {
  const operation_state& o = *operations().find(operation, CUBLAS_STATUS_INVALID_VALUE);
  const auto layout = [](cublasLtMatrixLayout_t l) { return *layouts().find(l, CUBLAS_STATUS_INVALID_VALUE); };
  product p{o.compute, {}, {}, o.scale, {}, {}, 0, 0, 0, 0, layout(A), layout(B), layout(C), layout(D)};
  const auto transposed = [](std::int32_t op) {
    if (op != CUBLAS_OP_N && op != CUBLAS_OP_T && op != CUBLAS_OP_C)
      refuse(CUBLAS_STATUS_INVALID_VALUE, "there is no operation ", op);
    return op != CUBLAS_OP_N;
  };
  p.transpose_a = transposed(o.transpose_a);
  p.transpose_b = transposed(o.transpose_b);
  // "Currently only CUBLAS_OP_N is supported" (CUBLASLT_MATMUL_DESC_TRANSC).
  if (o.transpose_c != CUBLAS_OP_N) refuse(CUBLAS_STATUS_NOT_SUPPORTED, "C can't be transposed");
  if (o.fill != CUBLAS_FILL_MODE_FULL || o.epilogue != CUBLASLT_EPILOGUE_DEFAULT ||
      o.pointer_mode != CUBLASLT_POINTER_MODE_HOST)
    refuse(CUBLAS_STATUS_NOT_SUPPORTED, "the stand-in has full matrices, no epilogue, and scalars on the host");
  must_be_layout(p.a, 'A');
  must_be_layout(p.b, 'B');
  must_be_layout(p.c, 'C');
  must_be_layout(p.d, 'D');
  p.in = p.a.type;
  p.out = p.d.type;
  const bool known = std::any_of(std::begin(supported), std::end(supported), [&](const type_row& row) {
    return row.compute == p.compute && row.scale == p.scale && row.in == p.in && row.out == p.out;
  });
  if (!known || p.b.type != p.in || p.c.type != p.out)
    refuse(CUBLAS_STATUS_NOT_SUPPORTED, "types: compute ", p.compute, ", scale ", p.scale, ", A ", p.a.type, ", B ",
           p.b.type, ", C ", p.c.type, ", D ", p.d.type);
  const auto m = p.transpose_a ? p.a.cols : p.a.rows, k = p.transpose_a ? p.a.rows : p.a.cols;
  const auto n = p.transpose_b ? p.b.rows : p.b.cols, depth = p.transpose_b ? p.b.cols : p.b.rows;
  if (k != depth || p.d.rows != m || p.d.cols != n || p.c.rows != m || p.c.cols != n)
    refuse(CUBLAS_STATUS_INVALID_VALUE, "shapes: op(A) ", m, " x ", k, ", op(B) ", depth, " x ", n, ", C ", p.c.rows,
           " x ", p.c.cols, ", D ", p.d.rows, " x ", p.d.cols);
  if (p.a.batch != p.d.batch || p.b.batch != p.d.batch || p.c.batch != p.d.batch)
    refuse(CUBLAS_STATUS_INVALID_VALUE, "batches: A ", p.a.batch, ", B ", p.b.batch, ", C ", p.c.batch, ", D ",
           p.d.batch);
  p.m = static_cast<offset>(m);
  p.n = static_cast<offset>(n);
  p.k = static_cast<offset>(k);
  p.batch = p.d.batch;
  return p;
}

}  // namespace standin

using namespace standin;

extern "C" cublasStatus_t cublasLtMatmul(cublasLtHandle_t lightHandle, cublasLtMatmulDesc_t computeDesc,
                                         const void* alpha, const void* A, cublasLtMatrixLayout_t Adesc, const void* B,
                                         cublasLtMatrixLayout_t Bdesc, const void* beta, const void* C,
                                         cublasLtMatrixLayout_t Cdesc, void* D, cublasLtMatrixLayout_t Ddesc,
                                         const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspaceSizeInBytes,
                                         cudaStream_t stream) {
  return blas_call("cublasLtMatmul", [&] {
    const int device = libraries().find(lightHandle, CUBLAS_STATUS_NOT_INITIALIZED)->device;
    stream_state& s = *find_stream(stream);
    // "The cuBLASLt library context is tied to the current CUDA device" (cublasLtCreate).
    if (device != current_device() || device != s.device)
      refuse(CUBLAS_STATUS_INVALID_VALUE, "the handle is of device ", device, ", the stream of ", s.device,
             ", the current device is ", current_device());
    const product p = described(computeDesc, Adesc, Bdesc, Cdesc, Ddesc);
    const algorithm chosen = algo == nullptr ? best_algorithm(p) : decoded(*algo, p);
    product_data data{read_scalar(alpha, p.scale, "alpha"), read_scalar(beta, p.scale, "beta"), {}, {}, {}, {}};

    const area a(A, p.a), b(B, p.b), c(C, p.c), d(D, p.d);
    must_be_device_memory(A, a.bytes(), device, "A");
    must_be_device_memory(B, b.bytes(), device, "B");
    must_be_device_memory(C, c.bytes(), device, "C");
    must_be_device_memory(D, d.bytes(), device, "D");
    // "will fail if e.g. buffers are not correctly aligned" (cublasLtMatmulAlgoCheck).
    const auto alignment = [&](const area& x) {
      return std::max(traits_of(chosen).alignment, static_cast<std::size_t>(x.element));
    };
    must_be_aligned(A, alignment(a), "A");
    must_be_aligned(B, alignment(b), "B");
    must_be_aligned(C, alignment(c), "C");
    must_be_aligned(D, alignment(d), "D");
    if (!strides_aligned(chosen, p))
      refuse(CUBLAS_STATUS_NOT_SUPPORTED, "a leading dimension or a stride is not aligned as the algorithm demands");

    // "A, B, and C" are input, D is output (the table of parameters), and they may be
    // "in-place matrix multiplication (C == D and Cdesc == Ddesc) and out-of-place matrix multiplication (C != D ...)".
    if (C == D && p.c != p.d) refuse(CUBLAS_STATUS_INVALID_VALUE, "C is D, but their layouts differ");
    if (overlaps_itself(d)) refuse(CUBLAS_STATUS_INVALID_VALUE, "matrices of the batch of D overlap");
    if (overlap(d, a)) refuse(CUBLAS_STATUS_INVALID_VALUE, "D overlaps A");
    if (overlap(d, b)) refuse(CUBLAS_STATUS_INVALID_VALUE, "D overlaps B");
    if (C != D && overlap(d, c)) refuse(CUBLAS_STATUS_INVALID_VALUE, "D overlaps C without being it");

    // "when workspaceSizeInBytes is less than workspace required by configured algo"; "must be 256B aligned".
    const std::size_t needed = workspace_of(chosen, p);
    if (workspaceSizeInBytes < needed)
      refuse(CUBLAS_STATUS_INVALID_VALUE, "a workspace of ", workspaceSizeInBytes, " bytes where ", needed,
             " are needed");
    if (needed != 0) {
      const auto bytes = static_cast<offset>(workspaceSizeInBytes);
      must_be_device_memory(workspace, bytes, device, "the workspace");
      if (reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0)
        refuse(CUBLAS_STATUS_INVALID_VALUE, "the workspace is not aligned to 256 bytes");
      const auto begin = static_cast<offset>(reinterpret_cast<std::uintptr_t>(workspace));
      for (const area* x : {&a, &b, &c, &d})
        if (!apart(begin, bytes, x->begin, x->bytes()))
          refuse(CUBLAS_STATUS_INVALID_VALUE, "the workspace overlaps an operand");
    }

    enqueue(s, make_task([=]() mutable {
              const auto view = [](const void* at, const area& x) {
                return opened(at, static_cast<std::size_t>(x.bytes()));
              };
              data.a = view(A, a);
              data.b = view(B, b);
              data.c = view(C, c);
              data.d = view(D, d);
              if (needed != 0) std::memset(opened(workspace, needed), 0xff, needed);  // its contents are lost
              compute(p, chosen, data);
              let_time_pass(time_of(chosen, p));
            }));
  });
}
