// The optimizer on a GPU: forward and backward stay on the host; weights, gradients, state and the whole step are in
// the device's memory.
#include <normuon/backends/cublas.hpp>

#include "optimizer_on.hpp"

namespace gpt {

std::unique_ptr<model_optimizer> make_device_optimizer(method m, const recipe& r, parameters<float>& weights,
                                                       parameters<float>& gradient) {
  using on_gpu = optimizer_on<normuon::cublas_backend, placement::on_device>;
  return std::make_unique<on_gpu>(normuon::cublas_backend(), m, r, weights, gradient);
}

std::string device_path_of(const recipe& r) { return path_on(normuon::cublas_backend(), r); }

}  // namespace gpt
