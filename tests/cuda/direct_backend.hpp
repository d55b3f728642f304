// The cuBLAS backend without its recordings: every operation is done at once.
#ifndef NORMUON_TESTS_CUDA_DIRECT_BACKEND_HPP
#define NORMUON_TESTS_CUDA_DIRECT_BACKEND_HPP

#include "normuon/backends/cublas.hpp"

namespace normuon::test {

class direct_cublas_backend : public cublas_backend {
 public:
  using cublas_backend::cublas_backend;

 private:
  using cublas_backend::record, cublas_backend::replay;
};
static_assert(tensor_backend<direct_cublas_backend> && !has_capture<direct_cublas_backend>);

}  // namespace normuon::test

#endif
