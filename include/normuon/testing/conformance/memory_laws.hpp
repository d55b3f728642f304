// Laws of memory, counters, flags, workers and recorded tasks.
#ifndef NORMUON_TESTING_CONFORMANCE_MEMORY_LAWS_HPP
#define NORMUON_TESTING_CONFORMANCE_MEMORY_LAWS_HPP

#include <atomic>

#include "normuon/testing/conformance/device_memory.hpp"

namespace normuon::testing {

template <tensor_backend B>
void it_takes_its_own_state_and_computes_its_default(B& b) {
  CHECK(B::takes(state_type<B>));
  CHECK(B::computes(B::default_compute()));
  CHECK_FALSE(B::computes(compute_type::automatic));
  CHECK(b.run_length({17, 29, 1, B::default_compute()}) >= 1);
}

template <tensor_backend B>
void memory_is_zeroed_and_stays_where_it_is(B& b) {
  for (const std::size_t size : {0u, 1u, 8u, 1000u, 1000u, 100000u}) {
    CAPTURE(size);
    typename B::memory memory = b.allocate(size);
    CHECK(memory.size() == size);
    CHECK(reinterpret_cast<std::uintptr_t>(memory.data()) % alignof(double) == 0);
    std::vector<std::byte> bytes(size, std::byte{1});
    b.read(bytes.data(), memory.data(), size);
    b.sync();
    CHECK(bytes == std::vector<std::byte>(size));
    bytes.assign(size, std::byte{0xa5});
    b.write(memory.data(), bytes.data(), size);  // the next memory may lie here
    b.sync();
    const std::byte* const address = memory.data();
    const typename B::memory moved = std::move(memory);
    CHECK(moved.data() == address);
  }
}

template <tensor_backend B>
void bytes_make_a_round_trip(B& b) {
  for (const std::size_t size : {std::size_t{500}, std::size_t{3'000'001}}) {
    CAPTURE(size);
    const typename B::memory memory = b.allocate(size + 499);
    std::vector<std::byte> bytes(size), all(size + 499), expected(size + 499);
    for (std::size_t k = 0; k < size; ++k) expected[k + 250] = bytes[k] = static_cast<std::byte>(k % 251);
    b.write(memory.data() + 250, bytes.data(), bytes.size());
    bytes.assign(size, std::byte{0});  // the caller's from the moment that write returns
    b.read(all.data(), memory.data(), all.size());
    b.sync();
    CHECK((all == expected));
  }
}

template <tensor_backend B>
void count_adds_one(B& b) {
  // Not three ones and a zero: of such a list g++ 12.2 makes four ones where it compiles for AVX-512.
  device_slots<B> counters(b, column({0, 7, 0x1p52, 3})), ok(b, column({1, 2, 3, 0}));
  b.count(counters, ok);
  CHECK_EQ(difference(counters.get(), column({1, 8, 0x1p52 + 1, 3})), "");
  b.count(counters, {});
  CHECK_EQ(difference(counters.get(), column({2, 9, 0x1p52 + 2, 4})), "");
}

// Each task works with the backend object that it is given: what workers share and should not shows.
template <tensor_backend B>
void each_task_is_done_once(B& b) {
  constexpr index_t count = 100;
  device_slots<B> counters(b, matrix(count, 1));
  std::vector<std::atomic<int>> visits(count);
  std::atomic<bool> known_worker = true;
  const slots all = counters;
  for_each(b, count, [&](B& own, int worker, index_t i) {
    ++visits[static_cast<std::size_t>(i)];
    if (worker < 0 || worker >= workers(b)) known_worker = false;
    own.count(all.subspan(static_cast<std::size_t>(i), 1), {});
  });
  for (const std::atomic<int>& n : visits) CHECK(n == 1);
  CHECK(known_worker);
  CHECK_EQ(difference(counters.get(), matrix(count, 1, 1)), "");
  for_each(b, 0, [&](B&, int, index_t) { ++visits[0]; });
  CHECK(visits[0] == 1);
}

// The task names tables and slots; what they hold is looked up when it is replayed.
template <tensor_backend B>
  requires has_capture<B>
void a_recorded_task_replays_with_new_numbers_and_tables(B& b) {
  const matrix a = random_matrix(17, 29, 1), c = random_matrix(17, 29, 2);
  device_matrices<B> out(b, state_type<B>, layout::rows, a);
  device_matrices<B> first(b, state_type<B>, layout::rows, a), second(b, state_type<B>, layout::spread, c);
  device_slots<B> k(b, column({1, 0})), ok(b, column({1}));
  std::vector<matrix_view> table(1, views(first)[0]);
  auto program = b.record([&](B& recorded) { recorded.blend(out, k[0], table, k[1], table, ok); });
  CHECK_MESSAGE(out.unchanged(), "recording a task has no effect");
  b.replay(program);
  CHECK_EQ(difference(out.get(0), first.given(0)), "");
  k.set(column({0, -2}));
  table[0] = views(second)[0];
  b.replay(program);
  CHECK_EQ(difference(out.get(0), mapped(second.given(0), [](double x) { return -2 * x; })), "");
  ok.set(column({0}));
  table[0] = {};
  b.replay(program);
  CHECK_EQ(difference(out.get(0), mapped(second.given(0), [](double x) { return -2 * x; })), "");
}

// Three ranks say whatever can be said together, of more parameters than a block of a device takes.
template <tensor_backend B>
  requires has_agreement<B>
void flags_become_what_ranks_say_together(B& b) {
  constexpr std::size_t count = 700, pitch = count + 5, ranks = 3, mine = 1;
  constexpr auto choices = static_cast<std::size_t>(verdict::differ) + 1;
  std::vector<verdict> said(ranks * pitch, verdict::moves);
  matrix finite(count, 1);
  for (std::size_t i = 0; i < count; ++i) {
    said[i] = static_cast<verdict>(i % choices);
    said[pitch + i] = static_cast<verdict>(i / choices % choices);
    said[2 * pitch + i] = static_cast<verdict>(i / choices / choices % choices);
    finite(static_cast<index_t>(i), 0) = i % 3 != 0 ? 1 : 0;
  }
  const typename B::memory memory = b.allocate(said.size());
  auto* const all = address_of<verdict>(memory.data());
  b.write(all, said.data(), said.size());
  device_slots<B> ok(b, finite);
  b.note_verdicts(all + mine * pitch, ok);
  std::vector<verdict> noted(said.size());
  b.read(noted.data(), all, noted.size());
  b.agree(ok, all, pitch, ranks);
  b.sync();
  for (std::size_t i = 0; i < count; ++i) said[mine * pitch + i] = checked(said[mine * pitch + i], i % 3 != 0);
  CHECK_MESSAGE((noted == said), "note_verdicts changes what is said of gradients that are not finite, and no more");
  matrix expected(count, 1);
  for (std::size_t i = 0; i < count; ++i)
    expected(static_cast<index_t>(i), 0) = lets_move(agreed(said.data() + i, pitch, ranks)) ? 1 : 0;
  CHECK_EQ(difference(ok.get(), expected), "");
}

// A later read holds what was there when it was asked for, whatever is written afterwards, and can be used again.
template <tensor_backend B>
  requires has_later_reads<B>
void a_later_read_holds_what_was_there(B& b) {
  typename B::later_read r;
  for (const std::size_t bytes : {std::size_t{64}, std::size_t{8}, std::size_t{4096}}) {
    const std::vector<std::byte> first(bytes, std::byte{0x5a}), second(bytes, std::byte{0xa5});
    const typename B::memory memory = b.allocate(bytes);
    b.write(memory.data(), first.data(), bytes);
    b.read_later(r, memory.data(), bytes);
    b.write(memory.data(), second.data(), bytes);
    b.sync();
    REQUIRE(b.is_there(r));
    CHECK(std::equal(first.begin(), first.end(), r.data()));
  }
}

}  // namespace normuon::testing

#endif
