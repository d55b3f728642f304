// Entry points of cuBLASLt: library handles and descriptors. As in the vendor's library, descriptors are made without a
// device, and take any value; a product that they describe is what is checked.
#include <cstring>

#include "capture.hpp"
#include "cublas_lt.hpp"

namespace standin {
namespace {

struct blas_state {
  handle_table<library_state> libraries{"cuBLASLt handle", 0xe9000000'00000000u};
  handle_table<layout_state> layouts{"matrix layout", 0xea000000'00000000u};
  handle_table<operation_state> operations{"matmul descriptor", 0xeb000000'00000000u};
  handle_table<preference_state> preferences{"matmul preference", 0xec000000'00000000u};
};
blas_state& state() {
  static blas_state s;
  return s;
}

// "CUBLAS_STATUS_INVALID_VALUE if buf is NULL or sizeInBytes doesn't match size of internal storage for selected
// attribute" (cublasLtMatrixLayoutSetAttribute and its kin).
template <class T>
void assign(T& field, const void* buffer, std::size_t bytes) {
  if (buffer == nullptr || bytes != sizeof(T))
    refuse(CUBLAS_STATUS_INVALID_VALUE, "an attribute of ", sizeof(T), " bytes was given ", bytes);
  std::memcpy(&field, buffer, sizeof(T));
}
[[noreturn]] void refuse_attribute(int attribute) {
  refuse(CUBLAS_STATUS_INVALID_VALUE, "the stand-in does not know attribute ", attribute);
}

void must_be_place(const void* p) {
  if (p == nullptr) refuse(CUBLAS_STATUS_INVALID_VALUE, "no place for the handle");
}

template <class Table, class Handle>
void destroy_if_any(Table& table, Handle handle) {
  if (handle != nullptr) table.destroy(handle, CUBLAS_STATUS_INVALID_VALUE);
}

}  // namespace

handle_table<library_state>& libraries() { return state().libraries; }
handle_table<layout_state>& layouts() { return state().layouts; }
handle_table<operation_state>& operations() { return state().operations; }
handle_table<preference_state>& preferences() { return state().preferences; }

void forget_blas() {
  libraries().clear();
  layouts().clear();
  operations().clear();
  preferences().clear();
  set_default_algorithms();
}

std::size_t blas_handles_in_use() {
  return libraries().size() + layouts().size() + operations().size() + preferences().size();
}

}  // namespace standin

using namespace standin;

extern "C" {

// "It allocates light hardware resources on the host and device", which a capture has no place for. "The cuBLASLt
// library context is tied to the current CUDA device" (cuBLAS guide, cublasLtCreate).
cublasStatus_t cublasLtCreate(cublasLtHandle_t* lightHandle) {
  return blas_call("cublasLtCreate", [&] {
    must_be_place(lightHandle);
    refuse_while_capturing("cublasLtCreate while a stream is capturing");
    libraries().make(lightHandle, std::make_shared<library_state>(library_state{current_device()}));
  });
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t lightHandle) {
  return blas_call(
      "cublasLtDestroy",
      [&] {
        if (lightHandle == nullptr) refuse(CUBLAS_STATUS_INVALID_VALUE, "no handle");
        libraries().find(lightHandle, CUBLAS_STATUS_NOT_INITIALIZED);
        refuse_while_capturing("cublasLtDestroy, which frees, while a stream is capturing");
        libraries().destroy(lightHandle, CUBLAS_STATUS_NOT_INITIALIZED);
      },
      needs::nothing);
}

size_t cublasLtGetVersion() { return CUBLAS_VERSION; }

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_MAPPING_ERROR: return "CUBLAS_STATUS_MAPPING_ERROR";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_LICENSE_ERROR: return "CUBLAS_STATUS_LICENSE_ERROR";
  }
  return "unrecognized status";
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "the library was not initialized";
    case CUBLAS_STATUS_ALLOC_FAILED: return "the resource allocation failed";
    case CUBLAS_STATUS_INVALID_VALUE: return "an unsupported value or parameter was passed to the function";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "the function requires an architectural feature absent from the device";
    case CUBLAS_STATUS_MAPPING_ERROR: return "an access to GPU memory space failed";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "the function failed to launch on the GPU";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "an internal operation failed";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "the requested functionality is not supported";
    case CUBLAS_STATUS_LICENSE_ERROR: return "the license check failed";
  }
  return "unrecognized status";
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* matLayout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  return blas_call(
      "cublasLtMatrixLayoutCreate",
      [&] {
        must_be_place(matLayout);
        layouts().make(matLayout, std::make_shared<layout_state>(layout_state{type, rows, cols, ld}));
      },
      needs::nothing);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t matLayout) {
  return blas_call(
      "cublasLtMatrixLayoutDestroy", [&] { destroy_if_any(layouts(), matLayout); }, needs::nothing);
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t matLayout, cublasLtMatrixLayoutAttribute_t attr,
                                                const void* buf, size_t sizeInBytes) {
  return blas_call(
      "cublasLtMatrixLayoutSetAttribute",
      [&] {
        layout_state& l = *layouts().find(matLayout, CUBLAS_STATUS_INVALID_VALUE);
        const auto set = [&](auto& field) { assign(field, buf, sizeInBytes); };
        switch (attr) {
          case CUBLASLT_MATRIX_LAYOUT_TYPE: return set(l.type);
          case CUBLASLT_MATRIX_LAYOUT_ORDER: return set(l.order);
          case CUBLASLT_MATRIX_LAYOUT_ROWS: return set(l.rows);
          case CUBLASLT_MATRIX_LAYOUT_COLS: return set(l.cols);
          case CUBLASLT_MATRIX_LAYOUT_LD: return set(l.ld);
          case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return set(l.batch);
          case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return set(l.stride);
          default: refuse_attribute(attr);
        }
      },
      needs::nothing);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* matmulDesc, cublasComputeType_t computeType,
                                        cudaDataType_t scaleType) {
  return blas_call(
      "cublasLtMatmulDescCreate",
      [&] {
        must_be_place(matmulDesc);
        operations().make(matmulDesc, std::make_shared<operation_state>(operation_state{computeType, scaleType}));
      },
      needs::nothing);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t matmulDesc) {
  return blas_call(
      "cublasLtMatmulDescDestroy", [&] { destroy_if_any(operations(), matmulDesc); }, needs::nothing);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t matmulDesc, cublasLtMatmulDescAttributes_t attr,
                                              const void* buf, size_t sizeInBytes) {
  return blas_call(
      "cublasLtMatmulDescSetAttribute",
      [&] {
        operation_state& o = *operations().find(matmulDesc, CUBLAS_STATUS_INVALID_VALUE);
        const auto set = [&](auto& field) { assign(field, buf, sizeInBytes); };
        switch (attr) {
          case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE: return set(o.compute);
          case CUBLASLT_MATMUL_DESC_SCALE_TYPE: return set(o.scale);
          case CUBLASLT_MATMUL_DESC_POINTER_MODE: return set(o.pointer_mode);
          case CUBLASLT_MATMUL_DESC_TRANSA: return set(o.transpose_a);
          case CUBLASLT_MATMUL_DESC_TRANSB: return set(o.transpose_b);
          case CUBLASLT_MATMUL_DESC_TRANSC: return set(o.transpose_c);
          case CUBLASLT_MATMUL_DESC_FILL_MODE: return set(o.fill);
          case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(o.epilogue);
          default: refuse_attribute(attr);
        }
      },
      needs::nothing);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* pref) {
  return blas_call(
      "cublasLtMatmulPreferenceCreate",
      [&] {
        must_be_place(pref);
        preferences().make(pref, std::make_shared<preference_state>());
      },
      needs::nothing);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t pref) {
  return blas_call(
      "cublasLtMatmulPreferenceDestroy", [&] { destroy_if_any(preferences(), pref); }, needs::nothing);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref,
                                                    cublasLtMatmulPreferenceAttributes_t attr, const void* buf,
                                                    size_t sizeInBytes) {
  return blas_call(
      "cublasLtMatmulPreferenceSetAttribute",
      [&] {
        preference_state& p = *preferences().find(pref, CUBLAS_STATUS_INVALID_VALUE);
        const auto set = [&](auto& field) { assign(field, buf, sizeInBytes); };
        switch (attr) {
          case CUBLASLT_MATMUL_PREF_SEARCH_MODE: return set(p.search);
          case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(p.workspace);
          case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(p.reductions);
          case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return set(p.alignment_a);
          case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return set(p.alignment_b);
          case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return set(p.alignment_c);
          case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return set(p.alignment_d);
          default: refuse_attribute(attr);
        }
      },
      needs::nothing);
}

}  // extern "C"
