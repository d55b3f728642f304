// Data-parallel gradients: a batch is eight parts, computed by as many threads as there are, added in one fixed order.
#ifndef TRAIN_GPT_WORKERS_HPP
#define TRAIN_GPT_WORKERS_HPP

#include <normuon/backends/cpu/executor.hpp>

#include "data.hpp"
#include "model.hpp"

namespace gpt {

// Results have the same bits for any number of threads, as Eigen's products are single-threaded here.
class workers {
 public:
  static constexpr std::size_t parts = 8;

  workers(const shape& s, int threads);
  int size() const { return pool_.size(); }
  normuon::thread_pool& threads() { return pool_; }  // for others, when no call is running

  // Mean loss over a batch of 8 n windows; overwrites `gradient` by its gradient.
  double gradient(const parameters<float>& weights, const windows& batch, parameters<float>& gradient);

  // Mean loss over any 8 n windows.
  double loss(const parameters<float>& weights, const windows& text);

 private:
  // Calls task(network, part, inputs, targets) for every eighth of the windows; the mean of what it returns.
  template <class Task>
  double mean_over_parts(const windows& w, Task task);

  normuon::thread_pool pool_;
  std::vector<network<float>> networks_;      // one a thread
  std::vector<parameters<float>> gradients_;  // one a part
};

}  // namespace gpt

#endif
