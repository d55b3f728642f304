// A benchmark of a backend whose products are wrong where a factor is to be transposed.
#include <normuon/backends/cpu/host_backend.hpp>
#include <normuon/bench/register_backend.hpp>

namespace {

struct wrong_products {
  template <class T>
  void reserve(normuon::index_t, normuon::index_t) {}
  template <class T>
  void multiply(T* Y, normuon::index_t m, normuon::index_t n, normuon::index_t k, T alpha, const T* A, const T* B,
                bool /*transpose*/) {
    for (normuon::index_t j = 0; j < n; ++j)
      for (normuon::index_t p = 0; p < k; ++p)
        for (normuon::index_t i = 0; i < m; ++i) Y[j * m + i] += alpha * A[p * m + i] * B[j * k + p];
  }
};
using wrong_backend = normuon::host_backend<float, wrong_products>;

}  // namespace

int main(int argc, char** argv) {
  return normuon::bench::run(argc, argv, [](const normuon::bench::settings& settings) {
    normuon::bench::register_backend<wrong_backend>(
        "wrong", [](int n) { return wrong_backend({.threads = n}); }, settings);
  });
}
