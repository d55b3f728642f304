// A place for dist/sharded_model.hpp: device memory.
#ifndef NORMUON_TESTS_CUDA_IN_DEVICE_MEMORY_HPP
#define NORMUON_TESTS_CUDA_IN_DEVICE_MEMORY_HPP

#include <map>
#include <vector>

#include "normuon/backends/cublas.hpp"

namespace normuon::test {

// Numbers of the host have a copy on the device, at an address that stays.
class in_device_memory {
 public:
  template <class B, class T>
  T* address(B& b, std::vector<T>& x) {
    auto [place, is_new] = copies_.try_emplace(&x);
    if (is_new) place->second = b.allocate(x.size() * sizeof(T));
    if (is_new) send(b, x);
    return address_of<T>(place->second.data());
  }
  template <class B, class T>
  void send(B& b, const std::vector<T>& x) {
    b.write(copies_.at(&x).data(), x.data(), x.size() * sizeof(T));
  }
  template <class B, class T>
  void fetch(B& b, std::vector<T>& x) {
    b.read(x.data(), copies_.at(&x).data(), x.size() * sizeof(T));
    b.sync();
  }

 private:
  std::map<const void*, cuda_memory> copies_;
};

}  // namespace normuon::test

#endif
