// Runs a kernel: block after block, the threads of a block in an order of chance between barriers and shuffles.
#ifndef NORMUON_TESTS_CUDA_STANDIN_BLOCKS_HPP
#define NORMUON_TESTS_CUDA_STANDIN_BLOCKS_HPP

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>

namespace standin {

struct position {
  uint3 thread, block;
  dim3 threads, blocks;
};
inline position here;  // of the thread that runs

// Every thread of every block calls `thread_body`. A device_fault says what a kernel has done wrong.
void run_grid(dim3 blocks, dim3 threads, const std::function<void()>& thread_body);

// __syncthreads: all threads of the block that have not ended meet, at one place of the source.
void block_barrier(const char* file, unsigned line);

// What lanes of a warp do together: all lanes of `mask` that have not ended meet, with the same mask, for the same act.
enum class warp_act { sync, shuffle, vote };
struct lane_word {
  std::uint64_t value;  // what the lane gives, and then what it gets
  unsigned from;        // the lane whose value it gets (shuffle)
};
std::uint64_t warp_meeting(warp_act act, unsigned mask, lane_word word);
unsigned lane_number();

}  // namespace standin

#endif
