// elementwise/<what>/<backend>/<n>/<threads>: one operation on n elements as a step asks for it: 16 square matrices,
// in runs that workers share out. `<what>:columns`: the same where a trainer's weights and gradients lie by columns.
#ifndef NORMUON_BENCH_ELEMENTWISE_HPP
#define NORMUON_BENCH_ELEMENTWISE_HPP

#include <cmath>
#include <deque>

#include "normuon/bench/measure.hpp"

namespace normuon::bench {

// The side of the squares; throws where n is not 16 times one.
inline index_t side_of_elements(index_t n) {
  const index_t side = std::llround(std::sqrt(static_cast<double>(n) / 16));
  if (side < 1 || side * side * 16 != n) fail(error_code::option, "expected 16 times a square of elements, got ", n);
  return side;
}

// How the numbers of a matrix follow each other: row-major or column-major.
enum class stored_by { rows, columns };

// 16 matrices of reals in the backend's memory.
template <tensor_backend B>
struct element_array {
  typename B::memory memory;
  std::vector<matrix_view> table;

  element_array(typename B::memory m, index_t side, stored_by by) : memory(std::move(m)) {
    for (index_t i = 0; i < 16; ++i) {
      auto* const first = address_of<typename B::real>(memory.data()) + i * side * side;
      table.push_back(by == stored_by::columns ? column_major(first, side, side) : row_major(first, side, side));
    }
  }
};

// A pass, with all that it works on.
template <tensor_backend B>
class elements {
 public:
  using real = typename B::real;

  // b must stay where it is. `weights`: how they lie, and gradients.
  elements(B& b, pass p, stored_by weights, index_t n) : b_(b), pass_(p), side_(side_of_elements(n)) {
    const auto order = [&](int k) { return k < facts_of(p).as_weights ? weights : stored_by::rows; };
    const int needed = std::max(1, facts_of(p).arrays) + (p == pass::neuron_step && !has_fused_neuron_step<B> ? 1 : 0);
    for (int k = 0; k < needed; ++k)
      arrays_.emplace_back(random_reals(b_, n, static_cast<std::uint64_t>(k * n)), side_, order(k));
    if (p == pass::adamw) arrays_[2] = {b_.allocate(arrays_[2].memory.size()), side_, order(2)};  // V is not negative
    factors_ = random_reals(b_, 16 * side_, 0);
    for (index_t i = 0; i < 16; ++i) lines_.push_back(address_of<real>(factors_.data()) + i * side_);
    make_slots();
    length_ = std::clamp<index_t>(b_.run_length({side_, side_, 1, compute}), 1, 16);
    if (facts_of(p).stored > 0) make_operands();
    // A program may only read operands that it has written itself.
    if (p == pass::load || facts_of(p).stored == 0) act_.emplace(b_, [this](B& to) { call_all(to); });
    else call_all(b_);
  }
  elements(const elements&) = delete;
  elements& operator=(const elements&) = delete;

  // The pass, once.
  void run() {
    if (act_) (*act_)(b_);
    else call_all(b_);
  }
  void wait() { b_.sync(); }

  static traffic bytes(pass p) { return facts_of(p).bytes(sizeof(real), bytes_of(compute)); }

 private:
  static constexpr compute_type compute = B::default_compute();
  static constexpr std::size_t numbers =
      5;  // keep, take, gradient scale, rate and decay; rates are small, so weights stay

  // Numbers, then a flag, a norm and a counter for each matrix.
  void make_slots() {
    std::vector<double> values{0.9, 0.1, 1, 1e-9, 1e-9};
    values.resize(numbers + 3 * 16, 1.0);
    slots_ = b_.allocate(values.size() * sizeof(double));
    b_.write(slots_.data(), values.data(), values.size() * sizeof(double));
    for (std::size_t i = 0; i < values.size(); ++i) slot_.push_back(address_of<double>(slots_.data()) + i);
  }

  // One operand per run, loaded from the first array.
  void make_operands() {
    operands_.resize(static_cast<std::size_t>((16 + length_ - 1) / length_));
    for (std::size_t run = 0; run < operands_.size(); ++run) {
      const auto first = static_cast<index_t>(run) * length_;
      b_.resize(operands_[run], {side_, side_, std::min<index_t>(length_, 16 - first), compute});
      load(b_, operands_[run], static_cast<std::size_t>(first));
    }
  }

  std::size_t count_from(std::size_t first) const { return std::min(static_cast<std::size_t>(length_), 16 - first); }
  views table(std::size_t array, std::size_t first) const {
    return views(arrays_[array].table).subspan(first, count_from(first));
  }
  // Flags, norms or counters, in this order.
  slots slots_of(std::size_t kind, std::size_t first) const {
    return slots(slot_).subspan(numbers + 16 * kind + first, count_from(first));
  }

  void load(B& b, typename B::operand& X, std::size_t first) {
    b.load(X, table(0, first), {}, slots_of(1, first), slots_of(0, first), {});
  }

  void call_all(B& b) {
    for_each(b, (16 + length_ - 1) / length_, [&](B& worker, int, index_t run) { call(worker, run); });
  }
  void call(B& b, index_t run) {
    const auto first = static_cast<std::size_t>(run * length_);
    const auto at = [&](std::size_t array) { return table(array, first); };
    const flags ok = slots_of(0, first);
    const number keep = slot_[0], take = slot_[1], scale = slot_[2], rate = slot_[3], decay = slot_[4];
    const auto operand = [&]() -> typename B::operand& { return operands_[static_cast<std::size_t>(run)]; };
    const vectors<real> f{std::span<real* const>(lines_).subspan(first, count_from(first)), side_};
    switch (pass_) {
      case pass::check: return b.all_finite(ok, at(0), scale);
      case pass::blend: return b.blend(at(1), take, at(0), keep, at(1), ok);
      case pass::momentum: return momentum(b, at(1), at(2), at(0), keep, take, ok);
      case pass::load: return load(b, operand(), first);
      case pass::mean_squares: return b.mean_squares(f, operand(), side::rows);
      case pass::store_scaled: return b.store_scaled(at(0), f, operand(), side::rows, ok);
      case pass::neuron_step:
        return neuron_step(b, at(0), at(0), has_fused_neuron_step<B> ? views() : at(1), f, operand(), side::rows, rate,
                           decay, {}, ok);
      case pass::apply: return b.apply(at(0), at(0), at(1), rate, decay, {}, ok);
      case pass::adamw:
        return b.adamw(at(0), at(0), at(1), at(2), at(3), slots_of(2, first), {keep, keep, scale, rate, decay}, 1e-8,
                       {}, slots_of(1, first), ok);
    }
  }

  B& b_;
  pass pass_;
  index_t side_, length_ = 1;
  std::vector<element_array<B>> arrays_;
  typename B::memory factors_, slots_;
  std::vector<real*> lines_;
  std::vector<slot> slot_;
  std::vector<typename B::operand> operands_;
  std::optional<repeated<B>> act_;
};

template <tensor_backend B>
void run_elementwise(benchmark::State& state, B b, pass p, stored_by weights, index_t n, int threads,
                     const settings& s) {
  const auto [moved, footprint] = elements<B>::bytes(p);
  const auto count = static_cast<double>(n);
  const index_t turns = inputs_in_turn(s, static_cast<std::size_t>(footprint * count));
  std::deque<elements<B>> in_turn;  // none of which may move
  for (index_t k = 0; k < turns; ++k) in_turn.emplace_back(b, p, weights, n);
  std::size_t turn = 0;
  const auto run = [&] { in_turn[turn++ % in_turn.size()].run(); };
  const double seconds = time_of(state, s, run, [&] { in_turn.front().wait(); });
  count_bytes(state, moved * count, seconds, s.bandwidth(static_cast<std::size_t>(footprint * count), threads));
}

template <tensor_backend B, class Make>
void register_elementwise(const std::string& backend, const Make& make, const settings& s) {
  const auto add = [&](pass p, stored_by weights) {
    const std::string what = std::string(facts_of(p).name) + (weights == stored_by::columns ? ":columns" : "");
    for (const index_t n : s.elements)
      for (const int threads : thread_counts<B>(s))
        add_benchmark(
            path_of("elementwise", what, backend, std::to_string(n), std::to_string(threads)), s,
            [=](benchmark::State& state) { run_elementwise<B>(state, make(threads), p, weights, n, threads, s); });
  };
  for (std::size_t k = 0; k < element_passes.size(); ++k) {
    add(static_cast<pass>(k), stored_by::rows);
    if (element_passes[k].as_weights > 0) add(static_cast<pass>(k), stored_by::columns);
  }
}

}  // namespace normuon::bench

#endif
