// How long one rank takes to plan 10,000 matrices, with the shapes of a 7B model, on 4096 ranks: processor time of
// several ranks, for each layout. docs/sharding.md quotes it.
#include <cstdio>
#include <ctime>
#include <normuon/shards/plan.hpp>
#include <random>

using namespace normuon;

namespace {

constexpr int ranks = 4096;
constexpr std::size_t count = 10'000;

// Cuts of a length at random places.
std::vector<index_t> cut_at_random(index_t length, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<index_t> offsets = {0, length};
  while (offsets.size() <= ranks)
    offsets.push_back(static_cast<index_t>(random() % static_cast<std::uint64_t>(length + 1)));
  std::sort(offsets.begin(), offsets.end());
  return offsets;
}

struct shape {
  index_t rows, cols;
};
constexpr shape attention{4096, 4096}, up{11008, 4096}, down{4096, 11008};
constexpr shape layer[] = {attention, attention, attention, attention, up, up, down};

// how(k, shape): the layout of matrix k.
template <class How>
void print_time(const char* name, How&& how) {
  std::vector<sharded_matrix> matrices;
  index_t begin = 0;
  for (std::size_t k = 0; k < count; ++k) {
    const shape& s = layer[k % std::size(layer)];
    matrices.push_back({.name = "layers." + std::to_string(k / std::size(layer)) + "." + std::to_string(k),
                        .rows = s.rows,
                        .cols = s.cols,
                        .where = how(k, s, begin),
                        .wire = element_type::bfloat16});
    begin += s.rows * s.cols;
  }
  double least = 1e9, most = 0;
  for (const int rank : {0, 1, 1000, 2047, 2048, 4000, 4095}) {
    std::vector<sharded_matrix> own = matrices;
    const std::clock_t start = std::clock();
    const shard_plan plan(std::move(own), rank, ranks);
    const double ms = 1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    least = std::min(least, ms), most = std::max(most, ms);
  }
  std::printf("%-24s %6.1f to %.1f ms\n", name, least, most);
}

}  // namespace

int main() {
  const auto always = [](const layout& l) { return [=](std::size_t, const shape&, index_t) { return l; }; };
  print_time("rows", always(layout::rows()));
  print_time("cols", always(layout::cols()));
  print_time("grid", always(layout::grid(64, 64)));
  print_time("grid of rows", always(layout::grid(64, 64, tensor_parallel::rows)));
  print_time("flat_slice", always(layout::flat_slice()));
  index_t elements = 0;
  for (std::size_t k = 0; k < count; ++k)
    elements += layer[k % std::size(layer)].rows * layer[k % std::size(layer)].cols;
  print_time("flat_slice of a buffer", [=](std::size_t, const shape&, index_t begin) {
    return layout::flat_slice(begin, (elements + ranks - 1) / ranks);
  });
  print_time("owned", [](std::size_t k, const shape&, index_t) { return layout::owned(static_cast<int>(k % ranks)); });
  print_time("replicated", always(layout::replicated()));
  // One cut for each matrix of a layer.
  const auto cut_anew = [](auto&& length_of, auto&& layout_of) {
    std::vector<layout> all;
    for (const shape& s : layer) all.push_back(layout_of(cut_at_random(length_of(s), all.size())));
    return [=](std::size_t k, const shape&, index_t) { return all[k % all.size()]; };
  };
  print_time("rows at random", cut_anew([](const shape& s) { return s.rows; },
                                        [](std::vector<index_t> at) { return layout::rows(std::move(at)); }));
  print_time("cols at random", cut_anew([](const shape& s) { return s.cols; },
                                        [](std::vector<index_t> at) { return layout::cols(std::move(at)); }));
  print_time("flat_slice at random",
             cut_anew([](const shape& s) { return s.rows * s.cols; },
                      [](std::vector<index_t> at) { return layout::flat_slice(std::move(at)); }));
}
