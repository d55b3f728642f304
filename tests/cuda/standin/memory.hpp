// Device memory and pinned host memory. Every allocation has pages of its own, mapped twice: at the address that the
// user has, closed to everybody but running kernels where it is a device's, and at a view that only the stand-in knows.
//
//   closed | red zone, data, red zone of less than 256 bytes | closed
//
// The data ends as near to the closed pages as the 256 bytes of cudaMalloc's alignment allow. New memory, and red
// zones, hold 0xff: a NaN in every floating-point type, an address that faults. Addresses don't come again.
#ifndef NORMUON_TESTS_CUDA_STANDIN_MEMORY_HPP
#define NORMUON_TESTS_CUDA_STANDIN_MEMORY_HPP

#include <cstddef>
#include <cstdint>

namespace standin {

constexpr int pinned = -1;  // as the device of host memory
constexpr std::size_t memory_alignment = 256;

struct allocation {
  char* address;  // the user's
  char* view;     // the same bytes
  std::size_t bytes;
  int device;
  bool alive;
  char* pages;         // the user's mapping, and
  char* pages_view;    // the view's,
  std::size_t mapped;  // both of so many bytes
  std::size_t number;  // which it was, from 1
};

void* allocate(std::size_t bytes, int device);  // nullptr where there is no room
void release(allocation& a);
allocation* find_allocation(const void* p);  // whose pages hold p, alive or not; or nullptr
bool in_device_space(const void* p);         // where device memory is, was or will be
std::size_t bytes_in_use(int device);

// Where the stand-in finds `bytes` bytes of a living allocation. Those outside one are refused with a device_fault.
char* view_of(const void* p, std::size_t bytes);

// While a kernel runs, the memory of its device is open to it.
void open_memory(int device);
void close_memory();
void check_red_zones();  // a device_fault names the allocation that was overrun

void forget_memory();  // all of it

}  // namespace standin

#endif
