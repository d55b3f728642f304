#include "memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <new>
#include <vector>

#include "world.hpp"

namespace standin {
namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t gap = std::size_t{1} << 20;  // closed, between allocations: addresses cost nothing
constexpr std::size_t space_bytes = std::size_t{1} << 42;
constexpr std::size_t poison_bytes = std::size_t{8} << 20;
constexpr int poison = 0xff;

struct memory_state {
  char* space = nullptr;  // reserved, closed
  char* next = nullptr;
  int poison_file = -1;  // that new pages are private copies of, made when they are first written
  std::map<std::uintptr_t, allocation> living, freed;  // by where their pages begin
  std::vector<allocation*> open;                       // of devices
  int kernel_device = pinned;                          // whose kernel runs
  std::map<int, std::size_t> in_use;
  std::size_t count = 0;
};
memory_state& state() {
  static memory_state s;
  return s;
}

std::uintptr_t number(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }
std::size_t rounded_up(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

bool make_poison_file() {
  const int file = memfd_create("standin", MFD_CLOEXEC);
  const std::vector<char> bytes(poison_bytes, static_cast<char>(poison));
  if (file < 0 || write(file, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) return false;
  state().poison_file = file;
  return true;
}

bool is_ready() {
  memory_state& s = state();
  if (s.space != nullptr) return true;
  if (s.poison_file < 0 && !make_poison_file()) return false;
  void* p = mmap(nullptr, space_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return false;
  s.space = s.next = static_cast<char*>(p);
  return true;
}

void close_pages(char* pages, std::size_t bytes) {
  mmap(pages, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

void protect(allocation& a, bool open) {
  if (mprotect(a.pages, a.mapped, open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0) throw std::bad_alloc();
  a.open = open;
}

void open_one(allocation& a) {
  if (a.open) return;
  protect(a, true);
  state().open.push_back(&a);
}

bool is_poisoned(const char* from, const char* to) {
  return std::all_of(from, to, [](char c) { return c == static_cast<char>(poison); });
}

}  // namespace

void* allocate(std::size_t bytes, int device) {
  memory_state& s = state();
  if (!is_ready() || bytes > space_bytes / 4) return nullptr;
  const std::size_t mapped = rounded_up(bytes, page);
  if (s.next + mapped + 2 * gap > s.space + space_bytes) return nullptr;
  char* const pages = s.next + gap;
  const int protection = device == pinned ? PROT_READ | PROT_WRITE : PROT_NONE;
  for (std::size_t at = 0; at < mapped; at += poison_bytes) {
    const std::size_t part = std::min(poison_bytes, mapped - at);
    if (mmap(pages + at, part, protection, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, s.poison_file, 0) != MAP_FAILED)
      continue;
    close_pages(pages, at + part);
    return nullptr;
  }
  char* const address = pages + mapped - rounded_up(bytes, memory_alignment);
  s.living[number(pages)] = {address, bytes, device, true, device == pinned, pages, mapped, ++s.count};
  s.open.reserve(s.living.size());  // so that nothing allocates where a fault opens memory
  s.next = pages + mapped;
  s.in_use[device] += bytes;
  return address;
}

void release(allocation& a) {
  memory_state& s = state();
  close_pages(a.pages, a.mapped);
  s.in_use[a.device] -= a.bytes;
  a.alive = a.open = false;
  std::erase(s.open, &a);
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

allocation& holder_of(const void* p, std::size_t bytes) {
  const auto fail = [](const auto&... words) { throw device_fault{cudaErrorIllegalAddress, sentence(words...)}; };
  allocation* a = find_allocation(p);
  if (a == nullptr) fail(p, " is in no allocation");
  if (!a->alive) fail("allocation ", a->number, ", at ", p, ", has been freed");
  if (number(p) < number(a->address) || bytes > a->bytes || number(p) - number(a->address) > a->bytes - bytes)
    fail(bytes, " bytes at ", p, " are not all in allocation ", a->number, " of ", a->bytes, " bytes at ",
         static_cast<const void*>(a->address));
  return *a;
}

char* opened(const void* p, std::size_t bytes) {
  open_one(holder_of(p, bytes));
  return static_cast<char*>(const_cast<void*>(p));
}

void open_for_kernel(int device) {
  memory_state& s = state();
  if (std::any_of(s.open.begin(), s.open.end(), [&](const allocation* a) { return a->device != device; }))
    close_memory();
  s.kernel_device = device;
}

bool open_where(const void* p) {
  allocation* a = find_allocation(p);
  if (a == nullptr || !a->alive || a->open || a->device != state().kernel_device) return false;
  open_one(*a);
  return true;
}

void close_memory() {
  memory_state& s = state();
  for (allocation* a : s.open) protect(*a, false);
  s.open.clear();
  s.kernel_device = pinned;
}

void check_red_zones() {
  for (auto& [_, a] : state().living) {
    if (!a.open) continue;
    char *const begin = std::max(a.pages, a.address - memory_alignment), *const end = a.address + a.bytes;
    const bool before = is_poisoned(begin, a.address), behind = is_poisoned(end, a.pages + a.mapped);
    if (before && behind) continue;
    std::memset(begin, poison, static_cast<std::size_t>(a.address - begin));
    std::memset(end, poison, static_cast<std::size_t>(a.pages + a.mapped - end));
    throw device_fault{cudaErrorIllegalAddress, sentence("something was written ", before ? "behind" : "before",
                                                         " allocation ", a.number, " of ", a.bytes, " bytes")};
  }
}

void forget_memory() {
  memory_state& s = state();
  while (!s.living.empty()) release(s.living.begin()->second);
  s.freed.clear();
  s.in_use.clear();
  s.next = s.space;
  s.count = 0;
}

}  // namespace standin
