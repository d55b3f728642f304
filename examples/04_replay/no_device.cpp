// In the place of device.cpp where no CUDA was found.
#include "device.hpp"

namespace replay {

safetensors::file run_on_device(const setup&, const safetensors::file&, bool) {
  fail(error_code::option, "--backend: expected eigen, got 'cublas', and this program was built without CUDA");
}

}  // namespace replay
