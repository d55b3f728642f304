// In the place of device.cpp where no CUDA was found.
#include "optimizers.hpp"

namespace gpt {

namespace {

[[noreturn]] void refuse() {
  normuon::fail(normuon::error_code::option,
                "--backend: expected eigen, got 'cublas', and this program was built without CUDA");
}

}  // namespace

std::unique_ptr<model_optimizer> make_device_optimizer(method, const recipe&, parameters<float>&, parameters<float>&) {
  refuse();
}

std::string device_path_of(const recipe&) { refuse(); }

}  // namespace gpt
