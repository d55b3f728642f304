// Entry points of cuBLASLt: the heuristic and the algorithms that it returns. An algorithm is known by a mark in its 64
// bytes, which also hold the types that it was made for.
#include <algorithm>
#include <array>
#include <cstring>

#include "cublas_lt.hpp"

namespace standin {
namespace {

constexpr std::uint64_t mark = 0x6e6f726d'756f6e21u;
constexpr std::size_t mebibyte = std::size_t{1} << 20;

// Those that bits can't be promised with come first.
std::vector<algorithm> default_algorithms() {
  return {algorithm::split_k_in_place, algorithm::split_k,   algorithm::unusable,
          algorithm::aligned,          algorithm::workspace, algorithm::plain};
}

std::vector<algorithm>& offered() {
  static std::vector<algorithm> order = default_algorithms();
  return order;
}

struct time_taken {
  double each = 0, per_thousand = 0;  // milliseconds
};
std::array<time_taken, 6>& times() {
  static std::array<time_taken, 6> all;
  return all;
}

// Types are part of an algorithm: "CUBLAS_STATUS_INVALID_VALUE if matrix layout descriptors or operation descriptor
// don't match algo descriptor" (cublasLtMatmulAlgoCheck).
std::uint64_t types_of(const product& p) {
  return static_cast<std::uint64_t>(p.compute) << 32 | static_cast<std::uint64_t>(p.in) << 16 |
         static_cast<std::uint64_t>(p.out);
}

cublasLtMatmulAlgo_t encoded(algorithm a, const product& p) {
  cublasLtMatmulAlgo_t algo{};
  const auto id = static_cast<std::uint64_t>(a);
  algo.data[0] = mark;
  algo.data[1] = id;
  algo.data[2] = types_of(p);
  algo.data[7] = mark ^ id ^ types_of(p);
  return algo;
}

bool is_marked(const cublasLtMatmulAlgo_t& algo) {
  return algo.data[0] == mark && algo.data[1] <= static_cast<std::uint64_t>(algorithm::unusable) &&
         algo.data[7] == (mark ^ algo.data[1] ^ algo.data[2]);
}

// "Selecting a smaller value will exclude algorithms that can not work with matrix A that is not as strictly aligned as
// they need", and so for the others (cublasLtMatmulPreferenceAttributes_t).
bool allowed(algorithm a, const product& p, const preference_state& wishes) {
  const algorithm_traits& t = traits_of(a);
  const bool scheme = t.reduction == CUBLASLT_REDUCTION_SCHEME_NONE ||
                      (wishes.reductions & static_cast<std::uint32_t>(t.reduction)) != 0;
  const auto alignment = std::min({wishes.alignment_a, wishes.alignment_b, wishes.alignment_c, wishes.alignment_d});
  return scheme && workspace_of(a, p) <= wishes.workspace && t.alignment <= alignment && strides_aligned(a, p) &&
         t.splits <= p.k;
}

template <class T>
void give(T value, void* buffer, std::size_t bytes, std::size_t* written) {
  // "if sizeInBytes is 0 and sizeWritten is NULL, or if sizeInBytes is non-zero and buf is NULL or sizeInBytes doesn't
  // match" (cublasLtMatmulAlgoConfigGetAttribute).
  if ((bytes == 0 && written == nullptr) || (bytes != 0 && (buffer == nullptr || bytes != sizeof(T))))
    refuse(CUBLAS_STATUS_INVALID_VALUE, "an attribute of ", sizeof(T), " bytes was asked for with ", bytes);
  if (bytes != 0) std::memcpy(buffer, &value, sizeof(T));
  if (written != nullptr) *written = sizeof(T);
}

void fill_result(cublasLtMatmulHeuristicResult_t& result, algorithm a, const product& p) {
  result.workspaceSize = workspace_of(a, p);
  result.state = a == algorithm::unusable ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
  result.wavesCount = 1;
}

}  // namespace

void set_algorithms(std::vector<algorithm> best_first) {
  const std::lock_guard guard(lock());
  offered() = std::move(best_first);
}

void set_default_algorithms() {
  offered() = default_algorithms();
  times() = {};
}

void set_time(algorithm a, double milliseconds_each, double milliseconds_per_thousand) {
  const std::lock_guard guard(lock());
  times()[static_cast<std::size_t>(a)] = {milliseconds_each, milliseconds_per_thousand};
}

double time_of(algorithm a, const product& p) {
  const time_taken& t = times()[static_cast<std::size_t>(a)];
  return t.each + t.per_thousand * static_cast<double>(p.m * p.n * p.k * p.batch) / 1000;
}

const algorithm_traits& traits_of(algorithm a) {
  static constexpr algorithm_traits all[] = {
      {1, CUBLASLT_REDUCTION_SCHEME_NONE, 1},    {1, CUBLASLT_REDUCTION_SCHEME_NONE, 16},
      {1, CUBLASLT_REDUCTION_SCHEME_NONE, 1},    {4, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, 1},
      {4, CUBLASLT_REDUCTION_SCHEME_INPLACE, 1}, {1, CUBLASLT_REDUCTION_SCHEME_NONE, 1},
  };
  return all[static_cast<std::size_t>(a)];
}

std::size_t workspace_of(algorithm a, const product& p) {
  const auto results = static_cast<std::size_t>(p.m * p.n * p.batch);
  if (a == algorithm::workspace) return mebibyte;
  if (a == algorithm::split_k) return results * element_bytes(p.scale) * static_cast<std::size_t>(traits_of(a).splits);
  return a == algorithm::split_k_in_place ? 4096 : 0;
}

// The alignment is "required for buffer pointer, leading dimension, and possibly other strides"
// (CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_A_BYTES and its kin).
bool strides_aligned(algorithm a, const product& p) {
  const auto fits = [&](const layout_state& l) {
    const auto unit = static_cast<std::int64_t>(element_bytes(l.type)),
               alignment = static_cast<std::int64_t>(traits_of(a).alignment);
    return l.ld * unit % alignment == 0 && (l.batch == 1 || l.stride * unit % alignment == 0);
  };
  return fits(p.a) && fits(p.b) && fits(p.c) && fits(p.d);
}

algorithm decoded(const cublasLtMatmulAlgo_t& algo, const product& p) {
  if (!is_marked(algo)) refuse(CUBLAS_STATUS_INVALID_VALUE, "these bytes are no algorithm");
  if (algo.data[2] != types_of(p)) refuse(CUBLAS_STATUS_INVALID_VALUE, "the algorithm is for other types");
  const auto a = static_cast<algorithm>(algo.data[1]);
  if (a == algorithm::unusable || traits_of(a).splits > p.k)
    refuse(CUBLAS_STATUS_NOT_SUPPORTED, "the algorithm does not compute this product");
  return a;
}

// "an implicit heuristics query with default search preferences" (cublasLtMatmul, where algo is NULL).
algorithm best_algorithm(const product& p) {
  for (const algorithm a : offered())
    if (a != algorithm::unusable && allowed(a, p, {})) return a;
  refuse(CUBLAS_STATUS_NOT_SUPPORTED, "no algorithm offered computes this product by default");
}

}  // namespace standin

using namespace standin;

extern "C" {

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t lightHandle, cublasLtMatmulDesc_t operationDesc,
                                              cublasLtMatrixLayout_t Adesc, cublasLtMatrixLayout_t Bdesc,
                                              cublasLtMatrixLayout_t Cdesc, cublasLtMatrixLayout_t Ddesc,
                                              cublasLtMatmulPreference_t preference, int requestedAlgoCount,
                                              cublasLtMatmulHeuristicResult_t heuristicResultsArray[],
                                              int* returnAlgoCount) {
  return blas_call("cublasLtMatmulAlgoGetHeuristic", [&] {
    libraries().find(lightHandle, CUBLAS_STATUS_NOT_INITIALIZED);
    if (returnAlgoCount == nullptr || heuristicResultsArray == nullptr)
      refuse(CUBLAS_STATUS_INVALID_VALUE, "no place for the algorithms");
    *returnAlgoCount = 0;
    // "CUBLAS_STATUS_INVALID_VALUE if requestedAlgoCount is less or equal to zero".
    if (requestedAlgoCount <= 0) refuse(CUBLAS_STATUS_INVALID_VALUE, requestedAlgoCount, " algorithms were asked for");
    const product p = described(operationDesc, Adesc, Bdesc, Cdesc, Ddesc);
    const preference_state& wishes = *preferences().find(preference, CUBLAS_STATUS_INVALID_VALUE);
    if (wishes.search != CUBLASLT_SEARCH_BEST_FIT)
      refuse(CUBLAS_STATUS_NOT_SUPPORTED, "the stand-in searches by best fit only");
    for (const algorithm a : offered())
      if (*returnAlgoCount < requestedAlgoCount && allowed(a, p, wishes)) {
        cublasLtMatmulHeuristicResult_t& result = heuristicResultsArray[(*returnAlgoCount)++];
        result.algo = encoded(a, p);
        fill_result(result, a, p);
      }
    // "CUBLAS_STATUS_NOT_SUPPORTED if no heuristic function available for current configuration".
    if (*returnAlgoCount == 0) refuse(CUBLAS_STATUS_NOT_SUPPORTED, "no algorithm offered fulfils the preferences");
  });
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t attr, void* buf,
                                                    size_t sizeInBytes, size_t* sizeWritten) {
  return blas_call(
      "cublasLtMatmulAlgoConfigGetAttribute",
      [&] {
        if (algo == nullptr || !is_marked(*algo)) refuse(CUBLAS_STATUS_INVALID_VALUE, "these bytes are no algorithm");
        const algorithm_traits& t = traits_of(static_cast<algorithm>(algo->data[1]));
        const auto answer = [&](auto value) { give(value, buf, sizeInBytes, sizeWritten); };
        switch (attr) {
          case CUBLASLT_ALGO_CONFIG_ID: return answer(static_cast<std::int32_t>(algo->data[1]));
          case CUBLASLT_ALGO_CONFIG_TILE_ID: return answer(static_cast<std::uint32_t>(CUBLASLT_MATMUL_TILE_128x256));
          case CUBLASLT_ALGO_CONFIG_SPLITK_NUM: return answer(std::int32_t{t.splits});
          case CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME: return answer(static_cast<std::uint32_t>(t.reduction));
          case CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING: return answer(std::uint32_t{0});
          case CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION: return answer(std::uint32_t{0});
          case CUBLASLT_ALGO_CONFIG_STAGES_ID: return answer(std::uint32_t{0});
          case CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID: return answer(std::uint16_t{0});
          case CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID: return answer(std::uint16_t{0});
          default: refuse(CUBLAS_STATUS_INVALID_VALUE, "the stand-in does not know attribute ", static_cast<int>(attr));
        }
      },
      needs::nothing);
}

}  // extern "C"
