#include "device.hpp"

#include "normuon/backends/cublas.hpp"
#include "run.hpp"

namespace replay {

safetensors::file run_on_device(const setup& s, const safetensors::file& in, bool trace) {
  using placement::on_device;
  if (s.threads.number != 1)
    fail(error_code::option, "--set threads: expected 1 with --backend cublas, got ", s.threads.number);
  return run(
      s, in, [&] { return run_on<on_device>(cublas_backend64(), s, in, trace); },
      [&] { return run_on<on_device>(cublas_backend(), s, in, trace); });
}

}  // namespace replay
