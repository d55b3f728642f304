// The stand-in for the CUDA runtime and cuBLASLt, as tests see it. A program that links it in place of the vendor's
// libraries runs the whole GPU path on the CPU, without a GPU. It keeps what the vendor promises and nothing more:
//   - device memory can't be touched by the host; a kernel can touch that of its own device only;
//   - work waits in its stream until something forces it, and then runs in any order that streams and events allow;
//   - what the documentation forbids is refused, with the code that it names, and a sentence in last_refusal().
// This header lets a test choose the order, make calls fail, look into device memory, and count.
//
// What it can't show: time, memory that is too far away to be in order (fences), limits of registers and of shared
// memory, bounds of __launch_bounds__, kernels that never end; threads that disturb each other between two barriers
// other than by their order; host memory that a kernel reaches through a table or a struct; other threads of the host
// that touch device memory while work runs; shared memory that is read before it is written, in templates compiled by
// g++ before 14.
#ifndef NORMUON_TESTS_CUDA_STANDIN_HPP
#define NORMUON_TESTS_CUDA_STANDIN_HPP

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace standin {

// As in a new process: no memory, no handle, no queued work, no error, no schedule of failures, counts at zero, one
// device, seed 0. Everything made before is gone.
void restart();

// Chooses the order of queued work, of blocks and of threads. One seed gives one order.
void seed(std::uint64_t n);

void set_device_count(int devices);         // with 0 the machine has none
void set_driver_version(int version);       // what cudaDriverGetVersion says; that of the toolkit at first
void set_memory_limit(std::size_t bytes);   // what can be allocated on each device; 4 GiB at first
std::size_t memory_in_use(int device = 0);  // bytes of cudaMalloc
std::size_t pinned_memory_in_use();         // bytes of cudaMallocHost
std::size_t handles_in_use();               // streams, events, graphs, descriptors and library handles that live
std::string last_refusal();                 // why the last call was refused, or why a device has failed

// The nth call of a function from now on (1: the next) does nothing and returns `code`, a cudaError_t or a
// cublasStatus_t. A launch counts as "cudaLaunchKernel".
void fail_call(std::string_view name, long nth, int code);
// The nth piece of work that runs from now on (a kernel, a copy or a product) does nothing, and its device fails with a
// sticky error.
void fail_work(long nth, cudaError_t code);

long calls(std::string_view name);  // since forget_calls
std::vector<std::string> trace();   // the names of all calls since forget_calls, in order
void forget_calls();                // sets calls, trace, waits and allocations to zero
long waits();                       // how often the host had to wait for work that had not run
long allocations();                 // memory that was made, on a device or pinned
long work_done();                   // kernels, copies and products that ran since restart

void run_everything();  // the device has had time enough: all queued work runs, and no wait is counted
std::size_t queued();   // kernels, copies, products and markers that have not run

// Reads and writes device or pinned memory as it is now; forces nothing. Throws std::out_of_range outside an
// allocation.
void peek(void* to, const void* from, std::size_t bytes);
void poke(void* to, const void* from, std::size_t bytes);

template <class T>
std::vector<T> peek(const T* from, std::size_t count) {
  std::vector<T> values(count);
  peek(values.data(), from, count * sizeof(T));
  return values;
}

// The algorithms that the heuristic of cublasLtMatmul knows. They differ in what they demand and in the order in which
// they add, hence in bits.
enum class algorithm {
  plain,             // takes everything
  aligned,           // 16-byte alignment of pointers, leading dimensions and strides
  workspace,         // 1 MiB of workspace
  split_k,           // parts of k, added in compute type in the workspace
  split_k_in_place,  // parts of k, added in the type of D, in an order that differs from run to run
  unusable,          // listed with a state that is no success
};
// Which are offered, best first. At first: split_k_in_place, split_k, unusable, aligned, workspace, plain.
void set_algorithms(std::vector<algorithm> best_first);

// What a product by an algorithm takes, besides what it does, on the clock of events: so long each, and so long for a
// thousand multiply-adds. Nothing at first.
void set_time(algorithm a, double milliseconds_each, double milliseconds_per_thousand = 0);

}  // namespace standin

#endif
