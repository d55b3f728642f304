#include "memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <new>

#include "world.hpp"

namespace standin {
namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t gap = std::size_t{1} << 20;  // closed, between allocations: addresses cost nothing
constexpr std::size_t space_bytes = std::size_t{1} << 42;
constexpr int poison = 0xff;

struct memory_state {
  char* space = nullptr;  // reserved, closed
  char* next = nullptr;
  std::map<std::uintptr_t, allocation> living, freed;  // by where their pages begin
  std::map<int, std::size_t> in_use;
  int open = pinned;  // the device whose memory kernels can touch now
  std::size_t count = 0;
};
memory_state& state() {
  static memory_state s;
  return s;
}

std::uintptr_t number(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }
std::size_t rounded_up(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

bool reserve_space() {
  memory_state& s = state();
  if (s.space != nullptr) return true;
  void* p = mmap(nullptr, space_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return false;
  s.space = s.next = static_cast<char*>(p);
  return true;
}

void protect(const allocation& a, int protection) {
  if (mprotect(a.pages, a.mapped, protection) != 0) throw std::bad_alloc();
}

bool holds(const char* from, const char* to) {
  return std::all_of(from, to, [](char c) { return c == static_cast<char>(poison); });
}

}  // namespace

void* allocate(std::size_t bytes, int device) {
  memory_state& s = state();
  if (!reserve_space() || bytes > space_bytes / 4) return nullptr;
  const std::size_t mapped = rounded_up(bytes, page);
  if (s.next + mapped + 2 * gap > s.space + space_bytes) return nullptr;
  const int file = memfd_create("standin", MFD_CLOEXEC);
  if (file < 0) return nullptr;
  char* pages = s.next + gap;
  void *user = MAP_FAILED, *view = MAP_FAILED;
  if (ftruncate(file, static_cast<off_t>(mapped)) == 0) {
    view = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (view != MAP_FAILED)
      user =
          mmap(pages, mapped, device == pinned ? PROT_READ | PROT_WRITE : PROT_NONE, MAP_SHARED | MAP_FIXED, file, 0);
  }
  close(file);
  if (user == MAP_FAILED) {
    if (view != MAP_FAILED) munmap(view, mapped);
    return nullptr;
  }
  std::memset(view, poison, mapped);
  const std::size_t front = mapped - rounded_up(bytes, memory_alignment);
  char* viewed = static_cast<char*>(view);
  s.living[number(pages)] = {pages + front, viewed + front, bytes, device, true, pages, viewed, mapped, ++s.count};
  s.next = pages + mapped;
  s.in_use[device] += bytes;
  return pages + front;
}

void release(allocation& a) {
  memory_state& s = state();
  munmap(a.pages_view, a.mapped);
  mmap(a.pages, a.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  s.in_use[a.device] -= a.bytes;
  a.alive = false;
  s.freed.insert(s.living.extract(number(a.pages)));
}

allocation* find_allocation(const void* p) {
  for (auto* some : {&state().living, &state().freed}) {
    const auto after = some->upper_bound(number(p));
    if (after == some->begin()) continue;
    allocation& a = std::prev(after)->second;
    if (number(p) < number(a.pages) + a.mapped) return &a;
  }
  return nullptr;
}

bool in_device_space(const void* p) {
  const memory_state& s = state();
  return s.space != nullptr && number(p) >= number(s.space) && number(p) < number(s.space) + space_bytes;
}

std::size_t bytes_in_use(int device) { return state().in_use[device]; }

char* view_of(const void* p, std::size_t bytes) {
  const allocation* a = find_allocation(p);
  if (a == nullptr) throw device_fault{cudaErrorIllegalAddress, sentence(p, " is in no allocation")};
  if (!a->alive)
    throw device_fault{cudaErrorIllegalAddress, sentence("allocation ", a->number, ", at ", p, ", has been freed")};
  if (number(p) < number(a->address) || bytes > a->bytes || number(p) - number(a->address) > a->bytes - bytes)
    throw device_fault{cudaErrorIllegalAddress,
                       sentence(bytes, " bytes at ", p, " are not all in allocation ", a->number, " of ", a->bytes,
                                " bytes at ", static_cast<const void*>(a->address))};
  return a->view + (number(p) - number(a->address));
}

void open_memory(int device) {
  memory_state& s = state();
  if (s.open == device) return;
  close_memory();
  for (auto& [_, a] : s.living)
    if (a.device == device) protect(a, PROT_READ | PROT_WRITE);
  s.open = device;
}

void close_memory() {
  memory_state& s = state();
  if (s.open == pinned) return;
  for (auto& [_, a] : s.living)
    if (a.device == s.open) protect(a, PROT_NONE);
  s.open = pinned;
}

void check_red_zones() {
  for (auto& [_, a] : state().living) {
    char *end = a.view + a.bytes, *last = a.pages_view + a.mapped;
    const char* first = std::max(a.pages_view, a.view - memory_alignment);
    const bool before = holds(first, a.view), behind = holds(end, last);
    if (before && behind) continue;
    std::memset(a.pages_view, poison, static_cast<std::size_t>(a.view - a.pages_view));
    std::memset(end, poison, static_cast<std::size_t>(last - end));
    throw device_fault{cudaErrorIllegalAddress, sentence("something was written ", before ? "behind" : "before",
                                                         " allocation ", a.number, " of ", a.bytes, " bytes")};
  }
}

void forget_memory() {
  memory_state& s = state();
  s.open = pinned;
  while (!s.living.empty()) release(s.living.begin()->second);
  s.freed.clear();
  s.in_use.clear();
  s.next = s.space;
  s.count = 0;
}

}  // namespace standin
