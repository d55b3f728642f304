// What the ranks of a data-parallel job tell each other besides the optimizer: gradients of their parts of a batch, and
// the weights that each has stepped.
#ifndef TRAIN_SHARDED_DATA_PARALLEL_HPP
#define TRAIN_SHARDED_DATA_PARALLEL_HPP

#include <mpi.h>

#include <array>
#include <normuon/shards/layout.hpp>
#include <span>
#include <stdexcept>
#include <vector>

#include "../03_train_gpt/data.hpp"
#include "../03_train_gpt/model.hpp"

namespace sharded {

inline void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw std::runtime_error(std::string(call) + ": " + text);
}

// Which ranks hold which floats of `mine`, and all of them behind one another, rank after rank.
inline std::vector<float> gathered(const std::vector<float>& mine, const std::vector<int>& counts) {
  std::vector<int> starts(counts.size() + 1);
  for (std::size_t r = 0; r < counts.size(); ++r) starts[r + 1] = starts[r] + counts[r];
  std::vector<float> all(static_cast<std::size_t>(starts.back()));
  check(MPI_Allgatherv(mine.data(), static_cast<int>(mine.size()), MPI_FLOAT, all.data(), counts.data(), starts.data(),
                       MPI_FLOAT, MPI_COMM_WORLD),
        "MPI_Allgatherv");
  return all;
}

// A batch is eight parts, whoever computes them; their gradients are added in one fixed tree, so that the sum doesn't
// depend on the number of ranks. Rank r of P takes parts r, r + P, ...
class gradients {
 public:
  static constexpr int parts = 8;

  gradients(const gpt::shape& s, int rank, int ranks) : rank_(rank), ranks_(ranks), network_(s), part_(s) {}

  // Mean loss over a batch of 8 n windows; overwrites `gradient` by its gradient, on every rank.
  double compute(const gpt::parameters<float>& weights, const gpt::windows& batch, gpt::parameters<float>& gradient) {
    const std::size_t tokens = batch.inputs.size() / parts;
    std::vector<float> mine;
    for (int k = rank_; k < parts; k += ranks_) {
      const auto of_part = [&](const std::vector<gpt::token>& all) {
        return std::span(all).subspan(static_cast<std::size_t>(k) * tokens, tokens);
      };
      network_.forward(weights, of_part(batch.inputs));
      mine.push_back(static_cast<float>(network_.loss(of_part(batch.targets))));
      network_.backward(weights, of_part(batch.inputs), part_);
      for (const auto& block : part_.blocks())
        mine.insert(mine.end(), block.view.data, block.view.data + block.view.rows * block.view.cols);
    }
    return sum(mine, gradient);
  }

 private:
  double sum(const std::vector<float>& mine, gpt::parameters<float>& gradient) {
    const auto blocks = gradient.blocks();
    std::size_t length = 1;  // of a part: its loss, then its gradient
    for (const auto& b : blocks) length += static_cast<std::size_t>(b.view.rows * b.view.cols);
    std::vector<int> counts;
    for (int r = 0; r < ranks_; ++r) counts.push_back(static_cast<int>(length) * ((parts - r + ranks_ - 1) / ranks_));
    const std::vector<float> all = gathered(mine, counts);
    std::array<const float*, parts> part;
    std::size_t next = 0;
    for (int r = 0; r < ranks_; ++r)
      for (int k = r; k < parts; k += ranks_, next += length) part[static_cast<std::size_t>(k)] = all.data() + next;

    double loss = 0;
    for (const float* p : part) loss += static_cast<double>(*p++);
    std::size_t at = 1;
    for (const auto& b : blocks)
      for (gpt::index_t i = 0; i < b.view.rows * b.view.cols; ++i, ++at) {
        const auto g = [&](std::size_t k) { return part[k][at]; };
        b.view.data[i] = (((g(0) + g(1)) + (g(2) + g(3))) + ((g(4) + g(5)) + (g(6) + g(7)))) / float(parts);
      }
    return loss / parts;
  }

  int rank_, ranks_;
  gpt::network<float> network_;
  gpt::parameters<float> part_;
};

// Brings to every rank the rectangles of weights that others hold. how: of each block.
inline void share_weights(gpt::parameters<float>& weights, const std::vector<normuon::layout>& how, int rank,
                          int ranks) {
  const auto blocks = weights.blocks();
  // Calls f(number) for all that a rank holds, in one order.
  const auto each_of = [&](int r, auto&& f) {
    for (std::size_t i = 0; i < blocks.size(); ++i)
      for (const normuon::rectangle& a : how[i].rectangles(blocks[i].view.rows, blocks[i].view.cols, r, ranks))
        for (gpt::index_t row = a.row; row < a.row + a.rows; ++row)
          for (gpt::index_t col = a.col; col < a.col + a.cols; ++col) f(blocks[i].view(row, col));
  };
  std::vector<float> mine;
  each_of(rank, [&](float x) { mine.push_back(x); });
  std::vector<int> counts;
  for (int r = 0; r < ranks; ++r) {
    counts.push_back(0);
    each_of(r, [&](float) { ++counts.back(); });
  }
  const std::vector<float> all = gathered(mine, counts);
  std::size_t next = 0;
  for (int r = 0; r < ranks; ++r) each_of(r, [&](float& x) { x = all[next++]; });
}

}  // namespace sharded

#endif
