#include "optimizers.hpp"

#include <normuon/backends/eigen.hpp>

#include "optimizer_on.hpp"

namespace gpt {

std::unique_ptr<model_optimizer> make_optimizer(method m, const recipe& r, parameters<float>& weights,
                                                parameters<float>& gradient, normuon::thread_pool& threads) {
  if (r.backend == backend::cublas) return make_device_optimizer(m, r, weights, gradient);
  using on_host = optimizer_on<normuon::eigen_backend, placement::in_place>;
  return std::make_unique<on_host>(normuon::eigen_backend(threads), m, r, weights, gradient);
}

std::string path_of(const recipe& r, normuon::thread_pool& threads) {
  if (r.backend == backend::cublas) return device_path_of(r);
  return path_on(normuon::eigen_backend(threads), r);
}

}  // namespace gpt
