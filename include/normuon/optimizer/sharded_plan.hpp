// What a step does with matrices of which ranks hold parts: tables of the parts that this rank holds and of the
// matrices that it owns, bucket after bucket, and the stages that they travel through.
#ifndef NORMUON_OPTIMIZER_SHARDED_PLAN_HPP
#define NORMUON_OPTIMIZER_SHARDED_PLAN_HPP

#include <map>
#include <memory>
#include <optional>

#include "normuon/optimizer/options.hpp"
#include "normuon/optimizer/ownership.hpp"
#include "normuon/optimizer/plan.hpp"
#include "normuon/shards/engine.hpp"
#include "normuon/shards/plan.hpp"

namespace normuon {

// The elements of `v` that `area` is of the whole.
inline matrix_view part_of(const matrix_view& v, const rectangle& area) {
  matrix_view part = v;
  const index_t before = (area.row * v.row_stride + area.col * v.col_stride) * static_cast<index_t>(size_of(v.type));
  if (v.data) part.data = static_cast<std::byte*>(v.data) + before;
  part.rows = area.rows;
  part.cols = area.cols;
  return part;
}

// The first element of a D that travels: a NaN says that it is no update. Pieces keep the view, as a recorded step
// looks it up wherever it was when it was recorded.
inline matrix_view mark_of(const matrix_view& D) { return part_of(D, {0, 0, 1, 1}); }

// A rectangle that this rank holds of a matrix which travels.
struct held_piece {
  std::size_t parameter = 0, part = 0;
  rectangle area;  // of the part: all of it, or a slice
  index_t entry = 0;
  int group = 0;
  slot ok = nullptr;
  slot sound = nullptr;         // 0 where no update came; of a matrix that this rank owns itself, its own flag
  matrix_view W, change, G, M;  // as in `plan`
  matrix_view U, D;             // where U goes (without memory: nowhere), and where D is found
  matrix_view mark;             // of D, where it travels
  matrix_view master;
  random_stream stream;
};

// A rectangle on its way into a stage or out of one.
struct carried_piece {
  matrix_view to, from;
  slot sound = nullptr;   // of the matrix whose D it is
  matrix_view mark = {};  // of D
};

template <tensor_backend B, shard_engine Engine>
struct sharded_bucket {
  std::vector<held_piece> remote, local;  // of matrices that others own, and that this rank owns
  std::vector<run> owned;                 // one for each matrix that this rank owns, the most expensive first
  std::size_t shared_runs = 0;            // as in `plan`
  std::vector<carried_piece> arrived;     // U from the stage into the whole
  std::vector<carried_piece> finished;    // D from the whole into the stage
  std::optional<repeated_exchange<Engine>> gather, scatter;

  bool holds(std::size_t parameter) const {
    const auto is_of_it = [=](const held_piece& h) { return h.parameter == parameter; };
    return std::any_of(remote.begin(), remote.end(), is_of_it) || std::any_of(local.begin(), local.end(), is_of_it);
  }
};

template <tensor_backend B, shard_engine Engine>
class sharded_plan {
 public:
  sharded_plan() = default;
  // Adds to `p` where U and D of the matrices are that this rank owns.
  sharded_plan(B& b, Engine& engine, plan<B>& p, const std::vector<group>& groups,
               const std::vector<parameter<B>>& parameters, std::vector<plan_field> agreed,
               const optimizer_options& options)
      : shards(matrices_of(groups, parameters, p.wire()), p.rank(), p.ranks(), std::move(agreed),
               {.staging_limit = options.staging_limit}) {
    if (shards.buckets().empty()) return;
    list_matrices(p, parameters);
    make_memory(b, p);
    for (std::size_t i = 0; i < shards.buckets().size(); ++i)
      buckets.push_back(make_bucket(b, engine, p, i, parameters, options.seed));
    make_sound_slots(b);
    std::vector<run> owned;
    std::size_t most = 0;
    for (const auto& bucket : buckets) {
      owned.insert(owned.end(), bucket.owned.begin(), bucket.owned.end());
      most = std::max(most, bucket.owned.size());
    }
    while (workspaces.size() < std::min(most, static_cast<std::size_t>(normuon::workers(b))))
      workspaces.push_back(workspace_for(b, p.shapes, std::span<const run>(owned)));
  }

  // All exchanges, for open_connections.
  std::vector<exchange> exchanges() const {
    std::vector<exchange> all;
    for (const bucket_plan& b : shards.buckets()) all.push_back(b.gather.legs), all.push_back(b.scatter.legs);
    return all;
  }
  std::size_t bytes() const {
    std::size_t sum = whole_.size();
    for (const workspace<B>& w : workspaces) sum += w.bytes;
    if (!stages_) return sum;
    for (const auto& pair : *stages_)
      for (const typename B::memory& stage : pair) sum += stage.size();
    return sum;
  }
  std::byte* stage(direction way, bool receives, std::size_t bucket) const {
    return (*stages_)[bucket % 2][(way == direction::scatter ? 2u : 0u) + (receives ? 1u : 0u)].data();
  }
  // They are never given back from now on: an aborted engine may still move bytes.
  void keep_stages() noexcept { stages_.get_deleter().keeps = true; }

  shard_plan shards;
  std::vector<workspace<B>> workspaces;  // as many as may be in use at once, each for any matrix
  std::vector<double> sound_ones;        // what `sound_memory` is at the start of a step
  typename B::memory sound_memory;

 private:
  using stage_pairs = std::array<std::array<typename B::memory, 4>, 2>;  // gather: sent, received; scatter: the same
  struct unless_kept {
    bool keeps = false;
    void operator()(stage_pairs* stages) const {
      if (!keeps) delete stages;
    }
  };
  struct matrix_place {
    std::size_t parameter;
    index_t entry;
    std::size_t k;  // in the tables of `plan`, where this rank owns it
  };

  void list_matrices(const plan<B>& p, const std::vector<parameter<B>>& parameters) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      auto k = static_cast<std::size_t>(p.first[i]);
      for (index_t entry = 0; entry < parameters[i].batch; ++entry) {
        const bool mine = shards.owns(places_.size()) && p.count[i] != 0;
        places_.push_back({i, entry, mine ? k++ : 0});
      }
    }
  }

  void make_memory(B& b, const plan<B>& p) {
    const stage_sizes& sizes = shards.stages();
    stages_.reset(new stage_pairs());
    for (auto& pair : *stages_) {
      pair[0] = b.allocate(sizes.gather_send);
      pair[1] = b.allocate(sizes.gather_receive);
      pair[2] = b.allocate(sizes.scatter_send);
      pair[3] = b.allocate(sizes.scatter_receive);
    }
    std::size_t most = 0;
    for (const bucket_plan& bucket : shards.buckets()) {
      std::size_t elements = 0;
      for (const std::size_t i : bucket.owned) elements += static_cast<std::size_t>(shards.matrices()[i].elements());
      most = std::max(most, elements);
    }
    whole_ = b.allocate(most * size_of(p.wire()));
  }

  sharded_bucket<B, Engine> make_bucket(B& b, Engine& engine, plan<B>& p, std::size_t index,
                                        const std::vector<parameter<B>>& parameters, std::uint64_t seed) {
    const bucket_plan& planned = shards.buckets()[index];
    sharded_bucket<B, Engine> bucket;
    std::byte* next = whole_.data();
    for (const std::size_t i : planned.owned) {
      const sharded_matrix& a = shards.matrices()[i];
      const std::size_t k = places_[i].k;
      p.U[k] = p.D[k] = row_major_of(p.wire(), next, a.rows, a.cols);
      next += a.wire_bytes();
      bucket.owned.push_back(
          {p.group_of[k], p.shape_of[k], static_cast<index_t>(k), 1, a.rows, a.cols, cost_of(true, a.rows, a.cols)});
    }
    std::stable_sort(bucket.owned.begin(), bucket.owned.end(),
                     [](const run& a, const run& c) { return a.cost > c.cost; });
    bucket.shared_runs = runs_shared_by(b, p.shapes, std::span<const run>(bucket.owned));

    const auto in_stage = [&](direction way, bool receives, const piece& at) {
      return row_major_of(p.wire(), stage(way, receives, index) + at.offset, at.area.rows, at.area.cols);
    };
    for (const piece& at : planned.local) {
      const std::size_t k = places_[at.matrix].k;
      held_piece h = held(at, p, parameters, seed);
      h.U = h.D = part_of(p.U[k], at.area);
      h.sound = p.sound[k];
      bucket.local.push_back(h);
    }
    std::map<std::pair<std::size_t, std::size_t>, std::size_t> remote;  // of each matrix and part, in the list
    for (const packet& from : planned.scatter.received)
      for (const piece& at : from.pieces) {
        remote.emplace(std::pair(at.matrix, at.part), bucket.remote.size());
        bucket.remote.push_back(held(at, p, parameters, seed));
        bucket.remote.back().D = in_stage(direction::scatter, true, at);
        bucket.remote.back().mark = mark_of(bucket.remote.back().D);
      }
    for (const packet& to : planned.gather.sent)
      for (const piece& at : to.pieces)
        bucket.remote[remote.at({at.matrix, at.part})].U = in_stage(direction::gather, false, at);
    for (const packet& from : planned.gather.received)
      for (const piece& at : from.pieces)
        bucket.arrived.push_back({part_of(p.U[places_[at.matrix].k], at.area), in_stage(direction::gather, true, at)});
    for (const packet& to : planned.scatter.sent)
      for (const piece& at : to.pieces) {
        const std::size_t k = places_[at.matrix].k;
        const matrix_view D = in_stage(direction::scatter, false, at);
        bucket.finished.push_back({D, part_of(p.D[k], at.area), p.sound[k], mark_of(D)});
      }
    bucket.gather.emplace(engine, planned.gather.legs, stage(direction::gather, false, index),
                          stage(direction::gather, true, index));
    bucket.scatter.emplace(engine, planned.scatter.legs, stage(direction::scatter, false, index),
                           stage(direction::scatter, true, index));
    return bucket;
  }

  held_piece held(const piece& at, const plan<B>& p, const std::vector<parameter<B>>& parameters, std::uint64_t seed) {
    const matrix_place& place = places_[at.matrix];
    const parameter<B>& q = parameters[place.parameter];
    const parameter_part& part = q.parts[at.part];
    held_piece h;
    h.parameter = place.parameter;
    h.part = at.part;
    h.area = {at.area.row - part.where.row, at.area.col - part.where.col, at.area.rows, at.area.cols};
    h.entry = place.entry;
    h.group = q.group;
    h.ok = p.parameter_ok[place.parameter];
    h.M = part_of(part.moments_view(q.state.momentum(), place.entry), h.area);
    if (q.has_master) h.master = part_of(part.master_view(q.state.master(), place.entry), h.area);
    h.stream = q.stream(seed, at.area, place.entry);
    return h;
  }

  void make_sound_slots(B& b) {
    std::size_t count = 0;
    for (const auto& bucket : buckets) count += bucket.remote.size();
    sound_ones.assign(count, 1.0);
    sound_memory = b.allocate(count * sizeof(double));
    slot next = address_of<double>(sound_memory.data());
    for (auto& bucket : buckets)
      for (held_piece& h : bucket.remote) h.sound = next++;
  }

  std::vector<matrix_place> places_;  // of the shard plan's matrices
  std::unique_ptr<stage_pairs, unless_kept> stages_;
  typename B::memory whole_;  // U, then D, of what this rank owns in a bucket

 public:
  std::vector<sharded_bucket<B, Engine>> buckets;  // the last, as requests go away before what they move
};

}  // namespace normuon

#endif
