#include "fibers.hpp"

#include <pthread.h>
#include <sys/mman.h>

#include <csignal>
#include <cstdint>
#include <iterator>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define STANDIN_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STANDIN_ADDRESS_SANITIZER
#endif
#endif
#ifdef STANDIN_ADDRESS_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "the stand-in's fibers are written for x86-64"
#endif

// standin_switch(save, to): keeps the registers that a function must keep (System V ABI, AMD64 supplement, 3.2.1) on
// the stack at hand, writes its top to *save, and goes on where the stack with the top `to` was left.
asm(R"(
.text
.globl standin_switch
.type standin_switch, @function
standin_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size standin_switch, . - standin_switch
)");
extern "C" void standin_switch(void** save, void* to);

namespace standin {
namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t stack_bytes = 256 * 1024;
constexpr std::size_t signal_stack_bytes = 64 * 1024;
constexpr int fault_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};

// All of it belongs to the one thread that holds the lock of the stand-in. (Not thread_local: a fiber may go on in
// another thread than the one that it was suspended in.)
fiber* running = nullptr;
pthread_t running_in;
void* resumer = nullptr;  // the top of the stack that resume was called on
int fault_signal = 0;
void* fault_address = nullptr;
void (*start)() = nullptr;
bool (*mend_fault)(const void* address) = nullptr;
void* resumer_shadow = nullptr;
const void* resumer_stack = nullptr;
std::size_t resumer_bytes = 0;

struct sigaction previous[std::size(fault_signals)];
stack_t previous_stack;

// AddressSanitizer has to know which stack is in use.
void before_switch([[maybe_unused]] void** shadow, [[maybe_unused]] const void* stack,
                   [[maybe_unused]] std::size_t bytes) {
#ifdef STANDIN_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(shadow, stack, bytes);
#endif
}
void after_switch([[maybe_unused]] void* shadow, [[maybe_unused]] const void** stack,
                  [[maybe_unused]] std::size_t* bytes) {
#ifdef STANDIN_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(shadow, stack, bytes);
#endif
}

void fiber_main() {
  after_switch(nullptr, &resumer_stack, &resumer_bytes);
  start();
  __builtin_trap();  // a body does not return
}

void leave(void** shadow) {
  fiber& self = *running;
  running = nullptr;
  before_switch(shadow, resumer_stack, resumer_bytes);
  standin_switch(&self.top, resumer);
}

void on_fault(int signal, siginfo_t* info, void*) {
  if (running == nullptr || pthread_equal(running_in, pthread_self()) == 0) {  // not ours: as if this had not been here
    for (std::size_t i = 0; i < std::size(fault_signals); ++i)
      if (fault_signals[i] == signal) sigaction(signal, &previous[i], nullptr);
    return;  // and the instruction faults again
  }
  if (signal == SIGSEGV && mend_fault(info->si_addr)) return;  // and the instruction goes on
  fault_signal = signal;
  fault_address = info->si_addr;
  leave(nullptr);  // for ever: the fiber's stack begins anew
}

}  // namespace

void make_fiber(fiber& f, void (*body)()) {
  start = body;
  if (f.stack == nullptr) {
    void* p = mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    mprotect(p, page, PROT_NONE);
    f.stack = static_cast<char*>(p) + page;
  }
  // As if standin_switch had been called at the beginning of fiber_main, which has no caller.
  // Tops differ in their lowest twelve bits, or they would all fall on the same few lines of the cache.
  const std::size_t number = reinterpret_cast<std::uintptr_t>(f.stack) / (page + stack_bytes);
  auto* top = reinterpret_cast<std::uintptr_t*>(f.stack + stack_bytes - number % 32 * 128);
  *--top = 0;
  *--top = reinterpret_cast<std::uintptr_t>(&fiber_main);
  for (int registers = 0; registers < 6; ++registers) *--top = 0;
  f.top = top;
  f.shadow = nullptr;
}

fault resume(fiber& f) {
  fault_signal = 0;
  running_in = pthread_self();
  running = &f;
  before_switch(&resumer_shadow, f.stack, stack_bytes);
  standin_switch(&resumer, f.top);
  after_switch(resumer_shadow, nullptr, nullptr);
  return {fault_signal, fault_address};
}

void suspend() {
  fiber& self = *running;
  leave(&self.shadow);
  after_switch(self.shadow, &resumer_stack, &resumer_bytes);
}

fault_guard::fault_guard(bool (*mend)(const void* address)) {
  mend_fault = mend;
  static char signal_stack[signal_stack_bytes];
  stack_t own{};
  own.ss_sp = signal_stack;
  own.ss_size = sizeof signal_stack;
  sigaltstack(&own, &previous_stack);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (std::size_t i = 0; i < std::size(fault_signals); ++i) sigaction(fault_signals[i], &action, &previous[i]);
}

fault_guard::~fault_guard() {
  for (std::size_t i = 0; i < std::size(fault_signals); ++i) sigaction(fault_signals[i], &previous[i], nullptr);
  sigaltstack(&previous_stack, nullptr);
}

}  // namespace standin
