// One device as a backend uses it: its stream, its library handle, its ring, and the memory that is lent to operations
// which are done at once. Shared by a backend and everything that it made.
#ifndef NORMUON_BACKENDS_CUDA_DEVICE_HPP
#define NORMUON_BACKENDS_CUDA_DEVICE_HPP

#include <memory>
#include <optional>
#include <string>

#include "normuon/backends/cuda/products.hpp"
#include "normuon/backends/cuda/ring.hpp"

namespace normuon {

struct cublas_options {
  int device = -1;  // -1: the one that is current when the backend is made
  std::optional<cudaStream_t> stream =
      {};  // borrowed: it must outlive the backend and what it made; none: one of its own
  product_options products = {};
};

class cuda_device {
 public:
  explicit cuda_device(const cublas_options& options)
      : id_(chosen(options.device)),
        scope_(std::in_place, id_),
        own_stream_(options.stream ? cuda_stream() : make_stream()),
        stream_(options.stream ? *options.stream : own_stream_.get()),
        capture_stream_(make_stream()),
        products_(workspace_bytes, options.products, stream_),
        ring_(ring_buffers) {
    ring_.reserve(ring_bytes);
    if (options.stream) refuse_stream_of_another_device();
    scope_.reset();
  }
  cuda_device(const cuda_device&) = delete;
  cuda_device& operator=(const cuda_device&) = delete;
  ~cuda_device() {
    leave_quietly([this] { (void)cudaStreamSynchronize(stream_); });
    try {
      scope_.emplace(id_);  // until all members are given back
    } catch (const error&) {
    }
  }

  // f() on this device. Throws error_code::device; where the device is lost, also from then on.
  template <class F>
  decltype(auto) use(F&& f) {
    if (!lost_.empty()) fail(error_code::device, "device ", id_, " is lost: ", lost_);
    try {
      const current_device scope(id_);
      return f();
    } catch (const error& e) {
      if (e.code() != error_code::device) throw;
      if (const auto* failed = dynamic_cast<const device_error*>(&e); failed && failed->is_lost()) lost_ = e.what();
      throw error(e.code(), std::string(e.what()) + " on device " + std::to_string(id_));
    }
  }

  // f(), which says nothing when it fails: for what is given back.
  template <class F>
  void leave_quietly(F&& f) const noexcept {
    try {
      const current_device scope(id_);
      f();
    } catch (const error&) {
    }
  }

  cudaStream_t stream() const { return stream_; }
  cudaStream_t capture_stream() const { return capture_stream_.get(); }
  cublas_lt_products& products() { return products_; }
  pinned_ring& ring() { return ring_; }
  void wait() const { check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

  // Memory for the tables and the scratch of an operation that is done at once: what is done later finds it free.
  std::byte* lend_tables(std::size_t bytes) { return lend(tables_, bytes); }
  std::byte* lend_scratch(std::size_t bytes) { return lend(scratch_, bytes); }

  // What a buffer of the ring takes at the least. More is sent piece by piece.
  static constexpr std::size_t ring_bytes = 256 * 1024;

 private:
  // So many copies may be under way before the host waits for the first of them.
  static constexpr std::size_t ring_buffers = 8;

  struct lent {
    device_memory memory;
    std::size_t bytes = 0;
  };

  static int chosen(int device) {
    int count = 0;
    check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    if (count == 0) fail(error_code::device, "cudaGetDeviceCount: there is no CUDA device");
    require_driver();
    if (device < 0) check(cudaGetDevice(&device), "cudaGetDevice");
    if (device >= count) fail(error_code::device, "expected a device of 0 to ", count - 1, ", got ", device);
    return device;
  }

  // Older ones can't load a kernel while a stream captures, and a step is captured before any of it has run.
  static void require_driver() {
    int version = 0;
    check(cudaDriverGetVersion(&version), "cudaDriverGetVersion");
    if (version < 12030)
      fail(error_code::device, "expected a driver of CUDA 12.3 or newer, got one of ", version / 1000, ".",
           version % 1000 / 10);
  }

  // For cuBLASLt: what cuBLAS recommends from Hopper on (its documentation, cublasSetWorkspace). Before it recommends
  // 4 MiB; more opens the choice and takes nothing from it.
  static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

  // By way of an event of this device, which goes into no other device's stream.
  void refuse_stream_of_another_device() const {
    check(cudaEventRecord(make_event().get(), stream_), "expected a stream of this device; cudaEventRecord in it");
  }

  std::byte* lend(lent& l, std::size_t bytes) {
    if (bytes > l.bytes) {
      wait();  // for what uses the old memory
      device_memory larger = make_device_memory(bytes);
      l.memory = std::move(larger);
      l.bytes = bytes;
    }
    return static_cast<std::byte*>(l.memory.get());
  }

  int id_;
  std::optional<current_device> scope_;  // while the others are made
  cuda_stream own_stream_;
  cudaStream_t stream_;
  cuda_stream capture_stream_;
  cublas_lt_products products_;
  pinned_ring ring_;
  lent tables_, scratch_;
  std::string lost_;  // by what
};

// Memory on a device. What was asked before it goes away still finds it: then the host waits.
class cuda_memory {
 public:
  cuda_memory() = default;
  cuda_memory(const std::shared_ptr<cuda_device>& device, std::size_t bytes)
      : memory_(nullptr, {device}), size_(bytes) {
    device_memory made = make_device_memory(bytes);
    if (bytes != 0) check(cudaMemsetAsync(made.get(), 0, bytes, device->stream()), "cudaMemsetAsync");
    memory_.reset(static_cast<std::byte*>(made.release()));
  }
  cuda_memory(cuda_memory&& other) noexcept
      : memory_(std::move(other.memory_)), size_(std::exchange(other.size_, std::size_t{0})) {}
  cuda_memory& operator=(cuda_memory&& other) noexcept {
    memory_ = std::move(other.memory_);
    size_ = std::exchange(other.size_, std::size_t{0});
    return *this;
  }

  std::byte* data() const { return memory_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct give_back {
    std::shared_ptr<cuda_device> device;
    void operator()(std::byte* p) const noexcept {
      device->leave_quietly([&] {
        if (cudaStreamSynchronize(device->stream()) == cudaSuccess) (void)cudaFree(p);  // else work may still find it
      });
    }
  };
  std::unique_ptr<std::byte, give_back> memory_;
  std::size_t size_ = 0;
};

}  // namespace normuon

#endif
