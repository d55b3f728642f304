// Device memory and pinned host memory. Every allocation has pages of its own; those of a device are closed to
// everybody but running work.
//
//   closed | red zone, data, red zone of less than 256 bytes | closed
//
// The data ends as near to the closed pages as the 256 bytes of cudaMalloc's alignment allow. New memory, and red
// zones, hold 0xff: a NaN in every floating-point type, an address that faults. Addresses don't come again. What is not
// caught: other threads of the host that touch device memory while work runs.
#ifndef NORMUON_TESTS_CUDA_STANDIN_MEMORY_HPP
#define NORMUON_TESTS_CUDA_STANDIN_MEMORY_HPP

#include <cstddef>
#include <cstdint>

namespace standin {

constexpr int pinned = -1;  // as the device of host memory
constexpr std::size_t memory_alignment = 256;

struct allocation {
  char* address;
  std::size_t bytes;
  int device;
  bool alive;
  bool open;           // can be touched now
  char* pages;         // where its pages begin,
  std::size_t mapped;  // and how many bytes they are
  std::size_t number;  // which it was, from 1
};

void* allocate(std::size_t bytes, int device);  // nullptr where there is no room
void release(allocation& a);
allocation* find_allocation(const void* p);  // whose pages hold p, alive or not; or nullptr
bool in_device_space(const void* p);         // where device memory is, was or will be
std::size_t bytes_in_use(int device);

// Refuses, by a device_fault, bytes that are not all of one living allocation.
allocation& holder_of(const void* p, std::size_t bytes);
// The same, and opens it until close_memory.
char* opened(const void* p, std::size_t bytes);
// For a kernel of this device its memory opens where it is touched first: the fault is answered by open_where, which is
// false where the kernel may not go.
void open_for_kernel(int device);
bool open_where(const void* p);
void close_memory();
void check_red_zones();  // of what is open; a device_fault names the allocation that was overrun

struct memory_closer {
  ~memory_closer() { close_memory(); }
};

void forget_memory();  // all of it

}  // namespace standin

#endif
