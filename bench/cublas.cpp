#include <normuon/bench/register_backend.hpp>

#include "device.hpp"
#include "suites.hpp"

using namespace normuon;

// Besides the shapes of all backends, banks as models have them: many matrices of a shape at once.
void register_cublas(const bench::settings& all) {
  bench::settings s = all;
  if (s.shapes == bench::settings().shapes)
    for (const bench::matrix_shape bank : {bench::matrix_shape{768, 768, 48},
                                           {768, 3072, 12},
                                           {2048, 2048, 8},
                                           {2048, 8192, 4},
                                           {4096, 4096, 1},
                                           {4096, 14336, 1}})
      s.shapes.push_back(bank);
  std::shared_ptr<bench::device_probe> probe;
  try {
    probe = std::make_shared<bench::device_probe>(s.probe_elements);
    s.rotated_bytes =
        std::min(bench::device_probe::rotated_bytes(), 4 * sizeof(float) * static_cast<std::size_t>(s.probe_elements));
  } catch (const error& e) {
    s.missing = e.what();
  }
  s.device_seconds = [probe](const std::function<void()>& f) { return probe->seconds(f); };
  s.peak = [probe](compute_type type, int) { return probe->product_rate<cublas_backend>(type); };
  s.bandwidth = [probe](std::size_t, int) { return probe->bandwidth(); };
  bench::register_backend<cublas_backend>(
      "cublas", [probe](int) { return cublas_backend({.stream = probe->stream()}); }, s);
}
