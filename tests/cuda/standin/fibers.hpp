// Stacks that one thread of the host switches between: the threads of a block run on them. Linux on x86-64.
#ifndef NORMUON_TESTS_CUDA_STANDIN_FIBERS_HPP
#define NORMUON_TESTS_CUDA_STANDIN_FIBERS_HPP

#include <cstddef>

namespace standin {

struct fiber {
  void* top = nullptr;  // of its stack while it is not running
  char* stack = nullptr;
  void* shadow = nullptr;  // AddressSanitizer's
};

struct fault {
  int signal;  // 0: none
  const void* address;
};

// Runs a fiber until it suspends: a new one, which calls `body` and never returns from it, or one that was suspended.
// One that does what no program may do (a wild address, an illegal instruction) is lost, and the fault is returned.
fault resume(fiber& f);
void suspend();  // from within a fiber, back to resume

void make_fiber(fiber& f, void (*body)());  // a stack of its own, or the one that f has, from its beginning

// While it lives, a fault of this thread inside a fiber ends in resume, unless `mend` has removed the cause, given the
// address; other faults end as before.
class fault_guard {
 public:
  explicit fault_guard(bool (*mend)(const void* address));
  ~fault_guard();
  fault_guard(const fault_guard&) = delete;
  fault_guard& operator=(const fault_guard&) = delete;
};

}  // namespace standin

#endif
