// A model whose parameters are spread over ranks in every way, trained on any number of them: each rank has its parts
// in memory of its own, and what all hold together is put in one place afterwards.
#ifndef NORMUON_TESTS_DIST_SHARDED_MODEL_HPP
#define NORMUON_TESTS_DIST_SHARDED_MODEL_HPP

#include <deque>
#include <functional>
#include <map>

#include "normuon/optimizer.hpp"
#include "support/model.hpp"

namespace normuon::test {

// A parameter as all ranks together see it, and how it is spread over them.
struct spread_parameter {
  std::string name;
  any_options options;
  index_t rows, cols, batch = 1;
  std::function<layout(int ranks)> how = [](int) { return layout::replicated(); };

  std::size_t size() const { return static_cast<std::size_t>(rows * cols * batch); }
};

// Whole tensors by name: weights under the names of parameters, and the state of an optimizer.
using whole_tensors = std::map<std::string, std::vector<double>>;

// Puts the part of a tensor that begins at `start` where it belongs; all extents but the last are walked one by one.
inline void put_part(std::vector<double>& whole, const std::vector<index_t>& extents, const std::vector<index_t>& start,
                     const std::vector<index_t>& shape, const std::vector<double>& values) {
  std::vector<index_t> at(shape.size(), 0);
  for (const double x : values) {
    index_t place = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) place = place * extents[d] + start[d] + at[d];
    whole[static_cast<std::size_t>(place)] = x;
    for (std::size_t d = shape.size(); d-- > 0;) {
      if (++at[d] < shape[d]) break;
      at[d] = 0;
    }
  }
}

// Who puts what another rank has put already must put the same: replicas.
inline void put_state(whole_tensors& all, const named_tensor& t) {
  if (t.whole.empty() && all.contains(t.name) && !same_bits(all[t.name], t.values))
    throw std::runtime_error("ranks have another " + t.name);
  const std::vector<index_t>& extents = t.whole.empty() ? t.shape : t.whole;
  const std::vector<index_t> start = t.whole.empty() ? std::vector<index_t>(t.shape.size(), 0) : t.start;
  index_t count = 1;
  for (const index_t extent : extents) count *= extent;
  std::vector<double>& whole = all[t.name];
  whole.resize(static_cast<std::size_t>(count));
  put_part(whole, extents, start, t.shape, t.values);
}

template <element T>
std::vector<T> first_weight(const spread_parameter& p) {
  return random_elements<T>(std::hash<std::string>()(p.name), p.size());
}
template <element T>
std::vector<T> gradient_of(const spread_parameter& p, int step) {
  return random_elements<T>(std::hash<std::string>()(p.name) + 1 + static_cast<std::uint64_t>(step), p.size());
}

// What one rank holds of a parameter.
template <element T>
struct spread_part {
  std::vector<T> weight, gradient, change;
  rectangle_list rectangles;

  spread_part(const spread_parameter& p, const layout& how, int rank, int ranks)
      : rectangles(how.rectangles(p.rows, p.cols, rank, ranks)) {
    weight.resize(static_cast<std::size_t>(how.held(p.rows, p.cols, rank, ranks) * p.batch));
    gradient = change = weight;
    copy(p, first_weight<T>(p), weight, true);
  }
  // Between a whole tensor and the memory of a part: that of `shard`.
  template <class Whole>
  void copy(const spread_parameter& p, Whole&& whole, std::vector<T>& part, bool into_part) const {
    auto next = part.begin();
    for (index_t b = 0; b < p.batch; ++b)
      for (const rectangle& r : rectangles)
        for (index_t i = 0; i < r.rows; ++i)
          for (index_t j = 0; j < r.cols; ++j, ++next) {
            auto& there = whole[static_cast<std::size_t>((b * p.rows + r.row + i) * p.cols + r.col + j)];
            if (into_part) *next = static_cast<T>(there);
            else if constexpr (!std::is_const_v<std::remove_reference_t<decltype(there)>>)
              there = static_cast<std::remove_reference_t<decltype(there)>>(*next);
          }
  }
};

// Where a backend finds numbers of the host: where they are.
struct in_host_memory {
  template <class B, class T>
  T* address(B&, std::vector<T>& x) const {
    return x.data();
  }
  template <class B, class T>
  void send(B&, const std::vector<T>&) const {}
  template <class B, class T>
  void fetch(B&, std::vector<T>&) const {}
};

// An optimizer over a rank's parts of the parameters. Place: where the backend has them.
template <tensor_backend B, shard_engine Engine, element T, class Place = in_host_memory>
class spread_trainer {
 public:
  std::vector<spread_parameter> parameters;
  optimizer<B, Engine> opt;
  std::deque<spread_part<T>> parts;  // which stay where they are

  spread_trainer(const std::vector<spread_parameter>& all, Engine engine, optimizer_options options = {},
                 B backend = B())
      : opt(std::move(backend), options, std::move(engine)) {
    for (const spread_parameter& p : all) add(p);
  }
  spread_trainer(const spread_trainer&) = delete;
  spread_trainer& operator=(const spread_trainer&) = delete;

  void add(const spread_parameter& p) {
    const int rank = opt.engine().rank(), ranks = opt.engine().size();
    const layout how = p.how(ranks);
    parameters.push_back(p);
    spread_part<T>& part = parts.emplace_back(p, how, rank, ranks);
    const auto view = [&](auto* data) { return shard(data, p.rows, p.cols, how, rank, ranks, p.batch); };
    opt.add_parameter(add_group(opt, p.options), p.name, view(place_.address(opt.backend(), part.weight)));
    bind_gradient(parts.size() - 1);
    opt.bind_change(p.name, view(place_.address(opt.backend(), part.change)));
  }
  void bind_gradient(std::size_t i) {
    const spread_parameter& p = parameters[i];
    const int rank = opt.engine().rank(), ranks = opt.engine().size();
    const T* const gradient = place_.address(opt.backend(), parts[i].gradient);
    opt.bind_gradient(p.name, shard(gradient, p.rows, p.cols, p.how(ranks), rank, ranks, p.batch));
  }

  void make_gradients(int step) {
    for (std::size_t i = 0; i < parts.size(); ++i)
      parts[i].copy(parameters[i], gradient_of<T>(parameters[i], step), parts[i].gradient, true);
    send_gradients();
  }
  // To where the backend has them, and back.
  void send_gradients() {
    for (spread_part<T>& part : parts) place_.send(opt.backend(), part.gradient);
  }
  void send_weights() {
    for (spread_part<T>& part : parts) place_.send(opt.backend(), part.weight);
  }
  void fetch_weights() {
    for (spread_part<T>& part : parts) place_.fetch(opt.backend(), part.weight);
  }
  void fetch_changes() {
    for (spread_part<T>& part : parts) place_.fetch(opt.backend(), part.change);
  }
  void step(int n) {
    make_gradients(n);
    opt.step();
  }
  // Adds what this rank holds to what others have put there.
  void put_into(whole_tensors& all) {
    fetch_weights();
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const bool first = !all.contains(parameters[i].name);
      std::vector<double>& whole = all[parameters[i].name];
      whole.resize(parameters[i].size());
      if (!first && parameters[i].how(opt.engine().size()).is_replicated()) {
        std::vector<T> others = parts[i].weight;
        parts[i].copy(parameters[i], whole, others, true);
        if (!same_bits(others, parts[i].weight)) throw std::runtime_error("ranks have another " + parameters[i].name);
      }
      parts[i].copy(parameters[i], whole, parts[i].weight, false);
    }
    for (const named_tensor& t : opt.export_state()) put_state(all, t);
  }

 private:
  Place place_;
};

}  // namespace normuon::test

#endif
