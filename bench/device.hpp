// A GPU's clock and its rates, measured once in the process that benchmarks: of one large product by cuBLASLt, and of a
// copy in its memory.
#ifndef NORMUON_BENCH_DEVICE_HPP
#define NORMUON_BENCH_DEVICE_HPP

#include <functional>
#include <map>
#include <memory>
#include <normuon/backends/cublas.hpp>
#include <normuon/bench/measure.hpp>

namespace normuon::bench {

class device_probe {
 public:
  // Of a GPU's current device; probes are `elements` large. Throws error_code::device where there is none.
  explicit device_probe(index_t elements)
      : elements_(elements), stream_(make_stream()), begin_(make_timed_event()), end_(make_timed_event()) {
    const auto bytes = static_cast<std::size_t>(elements) * sizeof(float);
    from_ = make_device_memory(bytes);
    to_ = make_device_memory(bytes);
  }

  // All backends that are measured work in this stream.
  cudaStream_t stream() const { return stream_.get(); }

  // The seconds between the beginning and the end of what f() puts into the stream. The device is kept busy until then
  // by copies, so that it does not wait for the host between two pieces of work.
  double seconds(const std::function<void()>& f) {
    for (int k = 0; k < 2; ++k) copy();
    return timed(f);
  }

  // Bytes/s of a copy: what is read and what is written.
  double bandwidth() {
    if (bandwidth_ == 0) bandwidth_ = best_of([this] { copy(); }, 2.0 * static_cast<double>(elements_) * sizeof(float));
    return bandwidth_;
  }

  // FLOP/s of a square product with random numbers.
  template <tensor_backend B>
  double product_rate(compute_type type) {
    double& rate = rates_[type];
    if (rate == 0) rate = measured_product_rate<B>(type);
    return rate;
  }

  // So that inputs that take turns are in no cache: twice the last one.
  static std::size_t rotated_bytes() {
    int device = 0, bytes = 0;
    check(cudaGetDevice(&device), "cudaGetDevice");
    check(cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, device), "cudaDeviceGetAttribute");
    return 2 * static_cast<std::size_t>(bytes);
  }

 private:
  void copy() {
    check(cudaMemcpyAsync(to_.get(), from_.get(), static_cast<std::size_t>(elements_) * sizeof(float),
                          cudaMemcpyDeviceToDevice, stream()),
          "cudaMemcpyAsync in the device's memory");
  }

  template <class F>
  double timed(F&& f) {
    check(cudaEventRecord(begin_.get(), stream()), "cudaEventRecord");
    f();
    check(cudaEventRecord(end_.get(), stream()), "cudaEventRecord");
    check(cudaEventSynchronize(end_.get()), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin_.get(), end_.get()), "cudaEventElapsedTime");
    return static_cast<double>(milliseconds) * 1e-3;
  }

  // Units a second of f(), which does `amount` of them: the best of seven samples of eight calls, after one that warms
  // up.
  template <class F>
  double best_of(F&& f, double amount) {
    constexpr int calls = 8;
    f();
    double best = 0;
    for (int sample = 0; sample < 7; ++sample)
      best = std::max(best, calls * amount / timed([&] {
                              for (int k = 0; k < calls; ++k) f();
                            }));
    return best;
  }

  template <tensor_backend B>
  double measured_product_rate(compute_type type) {
    B b({.stream = stream()});
    const index_t side = std::max<index_t>(1, std::llround(std::sqrt(static_cast<double>(elements_))) / 64 * 64);
    const typename B::memory matrix = random_reals(b, side * side, 0), numbers = b.allocate(3 * sizeof(double));
    const double initial[] = {1, 1, 1};
    b.write(numbers.data(), initial, sizeof initial);
    slot const first = address_of<double>(numbers.data());
    const slot norms[] = {first}, ok[] = {first + 1}, sound[] = {first + 2};
    const matrix_view U[] = {row_major(address_of<typename B::real>(matrix.data()), side, side)};
    typename B::operand X, Y;
    for (typename B::operand* operand : {&X, &Y}) b.resize(*operand, {side, side, 1, type});
    b.load(X, U, {}, norms, ok, sound);
    return best_of([&] { b.multiply(Y, 1, X, X, true, 0, Y); }, 2.0 * static_cast<double>(side * side * side));
  }

  index_t elements_;
  cuda_stream stream_;
  cuda_event begin_, end_;
  device_memory from_, to_;
  double bandwidth_ = 0;
  std::map<compute_type, double> rates_;
};

}  // namespace normuon::bench

#endif
