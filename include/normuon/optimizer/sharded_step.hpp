// The part of a step in which matrices travel: parts of U go to the owner, who makes D of the whole and sends parts of
// it back. While a bucket is computed the next one gathers and the one before it scatters.
#ifndef NORMUON_OPTIMIZER_SHARDED_STEP_HPP
#define NORMUON_OPTIMIZER_SHARDED_STEP_HPP

#include <thread>

#include "normuon/optimizer/sharded_plan.hpp"
#include "normuon/optimizer/step.hpp"
#include "normuon/optimizer/step_parts.hpp"

namespace normuon {

template <tensor_backend B, shard_engine Engine>
class sharded_stepper {
 public:
  // `step`: how many steps went before, the same number on every rank.
  sharded_stepper(plan<B>& p, sharded_plan<B, Engine>& s, Engine& engine, step_parts<B>& parts,
                  const std::vector<group>& groups, const step_settings& settings, std::uint64_t step)
      : p_(p), s_(s), engine_(engine), parts_(parts), groups_(groups), settings_(settings), step_(step) {}

  // Notes on the host where weights, gradients and change buffers are now.
  void stage(const std::vector<parameter<B>>& parameters) {
    for_each_piece([&](held_piece& h) {
      const parameter<B>& q = parameters[h.parameter];
      const parameter_part& part = q.parts[h.part];
      h.W = part_of(part.weight.one(h.entry), h.area);
      h.G = part_of(gradient_of(part, h.entry, p_.zero()), h.area);
      if (settings_.write == write_form::change) h.change = part_of(part.change.one(h.entry), h.area);
    });
  }
  // Sets the flags of what is to arrive.
  void expect_updates(B& b) { b.write(s_.sound_memory.data(), s_.sound_ones.data(), s_.sound_memory.size()); }

  void check(B& b) {
    for_each_piece([&](held_piece& h) { b.all_finite({&h.ok, 1}, {&h.G, 1}, p_.numbers(h.group).gradient_scale); });
  }

  // Moves what travels, and calls meanwhile(b, between), which is work for which nothing travels, while the first U
  // does; it is to call between() now and then. progress[i] of bucket i is 1 from its beginning, 2 from its end.
  template <class Meanwhile>
  void move(B& b, std::span<std::uint8_t> progress, Meanwhile&& meanwhile) {
    const polling while_computing(b, *this);
    auto& buckets = s_.buckets;
    if (!buckets.empty()) send_U(b, 0, progress);
    parts_.compute(b, [&](B& now) { meanwhile(now, buckets.empty() ? hook() : poll_hook()); });
    for (std::size_t i = 0; i < buckets.size(); ++i) {
      if (i + 1 < buckets.size()) send_U(b, i + 1, progress);
      parts_.compute(b, [&](B& now) { advance(now, buckets[i].local); });
      finish(i, direction::gather);
      parts_.compute(b, [&](B& now) {
        take_U(now, buckets[i]);
        direct(now, buckets[i]);
        give_D(now, buckets[i]);
      });
      start(i, direction::scatter);
      parts_.compute(b, [&](B& now) { apply(now, buckets[i].local); });
      if (i > 0) receive_D(b, i - 1, progress);
    }
    if (!buckets.empty()) receive_D(b, buckets.size() - 1, progress);
  }

 private:
  template <class F>
  void for_each_piece(F&& f) {
    for (auto& bucket : s_.buckets)
      for (auto* pieces : {&bucket.remote, &bucket.local})
        for (held_piece& h : *pieces) f(h);
  }

  const normuon_options& options(int group) const {
    return std::get<normuon_options>(groups_[static_cast<std::size_t>(group)].options);
  }

  void send_U(B& b, std::size_t i, std::span<std::uint8_t> progress) {
    progress[i] = 1;
    parts_.compute(b, [&](B& now) { advance(now, s_.buckets[i].remote); });
    start(i, direction::gather);
  }

  void take_U(B& b, sharded_bucket<B, Engine>& bucket) {
    for (const carried_piece& u : bucket.arrived) copy(b, p_, {&u.to, 1}, {&u.from, 1}, {});
  }

  // A piece whose first element is a NaN brings no update: the owner found that U overflows, or that nothing moves.
  void give_D(B& b, sharded_bucket<B, Engine>& bucket) {
    for (const carried_piece& d : bucket.finished) {
      const views mark{&d.mark, 1};
      if (!settings_.propagate) b.blend(mark, p_.not_a_number(), mark, p_.none(), mark, {});
      copy(b, p_, {&d.to, 1}, {&d.from, 1}, settings_.propagate ? flags{} : flags{&d.sound, 1});
    }
  }

  void receive_D(B& b, std::size_t i, std::span<std::uint8_t> progress) {
    finish(i, direction::scatter);
    parts_.compute(b, [&](B& now) {
      for (held_piece& h : s_.buckets[i].remote)
        if (!settings_.propagate) now.all_finite({&h.sound, 1}, {&h.mark, 1}, p_.one());
      apply(now, s_.buckets[i].remote);
    });
    if constexpr (!has_capture<B>) progress[i] = 2;  // a replay does not say how far it came
  }

  void advance(B& b, std::vector<held_piece>& pieces) {
    for (held_piece& h : pieces) advance(b, h);
  }
  void apply(B& b, std::vector<held_piece>& pieces) {
    for (held_piece& h : pieces) apply(b, h);
  }
  void advance(B& b, held_piece& h) {
    const normuon_options& o = options(h.group);
    const flags ok{&h.ok, 1};
    const bool sends_U = h.U.data != nullptr;
    normuon_rule<B>::advance(b, o.nesterov && sends_U, {&h.M, 1}, {&h.U, 1}, {&h.G, 1}, p_.numbers(h.group), ok);
    if (sends_U && !o.nesterov) copy(b, p_, {&h.U, 1}, {&h.M, 1}, ok);
  }

  void apply(B& b, held_piece& h) {
    const normuon_options& o = options(h.group);
    const matrix_view& out = settings_.write == write_form::weight ? h.W : h.change;
    normuon_rule<B>::apply(b, {&out, 1}, {&h.W, 1}, {&h.D, 1}, p_.numbers(h.group), {o.decay, settings_.write},
                           {settings_.propagate ? &h.ok : &h.sound, 1},
                           low_bits_of(o.weight_rounding, {&out, 1}, {&h.master, 1}, {&h.stream, 1},
                                       {&p_.parameter_counter[h.parameter], 1}));
  }

  void direct(B& b, sharded_bucket<B, Engine>& bucket) {
    // Where there are no more matrices than workspaces, each has one of its own; otherwise each worker has.
    const bool one_each = bucket.owned.size() <= s_.workspaces.size();
    const auto direct_one = [&, this](B& worker, int index, std::size_t i) {
      const run& a = bucket.owned[i];
      const auto k = static_cast<std::size_t>(a.first);
      if constexpr (!has_capture<B>)  // a recorded step has to take all
        if (!moves(p_, p_.parameter_of[k])) return hold_back(b, p_.sound[k]);
      auto& work = s_.workspaces[one_each ? i : static_cast<std::size_t>(index)].iteration;
      work.between = poll_hook();
      owner<B> s = owner_of(p_, a, work, settings_.propagate);
      normuon_rule<B>::direct(worker, p_.shapes[static_cast<std::size_t>(a.shape)], s, {&p_.D[k], 1}, {&p_.U[k], 1},
                              p_.numbers(a.group), {&p_.ok[k], 1});
      if (settings_.diagnostics) measure_residual(worker, p_, a, work);
    };
    for (std::size_t i = 0; i < bucket.shared_runs; ++i) direct_one(b, 0, i);
    for_each(b, static_cast<index_t>(bucket.owned.size() - bucket.shared_runs), [&](B& worker, int index, index_t i) {
      direct_one(worker, index, bucket.shared_runs + static_cast<std::size_t>(i));
    });
  }

  static void hold_back(B& b, slot sound) {
    constexpr double no = 0;
    b.write(sound, &no, sizeof no);
  }

  // None for what is only recorded.
  hook poll_hook() {
    if (has_capture<B>) return {};
    return {[](void* self) { static_cast<sharded_stepper*>(self)->poll(); }, this};
  }
  // Polls also where the thread that makes the step has nothing to do but wait.
  struct polling {
    B& b;
    polling(B& backend, sharded_stepper& self) : b(backend) {
      if constexpr (has_waiting_hook<B>) b.while_waiting(self.poll_hook());
    }
    ~polling() {
      if constexpr (has_waiting_hook<B>) b.while_waiting({});
    }
    polling(const polling&) = delete;
    polling& operator=(const polling&) = delete;
  };

  // What goes wrong in verb(request) is said of a bucket.
  template <class Verb>
  void in_bucket(std::size_t i, direction way, Verb&& verb) {
    auto& bucket = s_.buckets[i];
    try {
      verb(way == direction::gather ? *bucket.gather : *bucket.scatter);
    } catch (const error& e) {
      fail(e.code(), e.what(), ", in the ", name_of(way), " of bucket ", i);
    }
  }
  void start(std::size_t i, direction way) {
    parts_.exchange([&] {
      write_headers(i, way);
      in_bucket(i, way, [this](auto& request) { request.start(engine_); });
    });
  }
  void finish(std::size_t i, direction way) {
    parts_.exchange([&] {
      in_bucket(i, way, [this](auto& request) { request.finish(engine_); });
      check_headers(i, way);
    });
  }

  // Lets the engine move what is under way. One thread alone may call it: that which made the step.
  void poll() {
    if (std::this_thread::get_id() != thread_) return;
    for (std::size_t i = 0; i < s_.buckets.size(); ++i)
      for (const direction way : {direction::gather, direction::scatter})
        in_bucket(i, way, [this](auto& request) { request.test(engine_); });
  }

  const traffic& traffic_of(std::size_t i, direction way) const {
    const bucket_plan& b = s_.shards.buckets()[i];
    return way == direction::gather ? b.gather : b.scatter;
  }
  // Headers are the host's: where it can't reach stages, legs have room for them and no more.
  void write_headers(std::size_t i, direction way) {
    if constexpr (has_host_memory<B>)
      for (const packet& to : traffic_of(i, way).sent)
        write_leg_header({s_.stage(way, false, i) + to.offset, to.bytes},
                         s_.shards.sent(s_.shards.label(step_, i, way), to));
  }
  void check_headers(std::size_t i, direction way) {
    if constexpr (has_host_memory<B>)
      for (const packet& from : traffic_of(i, way).received)
        check_leg({s_.stage(way, true, i) + from.offset, from.bytes},
                  s_.shards.received(s_.shards.label(step_, i, way), from));
  }

  plan<B>& p_;
  sharded_plan<B, Engine>& s_;
  Engine& engine_;
  step_parts<B>& parts_;
  const std::vector<group>& groups_;
  step_settings settings_;
  std::uint64_t step_;
  std::thread::id thread_ = std::this_thread::get_id();
};

}  // namespace normuon

#endif
