// A model (support/model.hpp) whose weights, gradients and change buffers lie in the memory of a backend, whichever.
#ifndef NORMUON_TESTS_CUDA_PLACED_MODEL_HPP
#define NORMUON_TESTS_CUDA_PLACED_MODEL_HPP

#include "support/model.hpp"

namespace normuon::test {

template <tensor_backend B, element T = typename B::real>
class placed_model {
 public:
  model<T> host;
  optimizer<B> opt;

  explicit placed_model(std::vector<owned_parameter<T>> parameters, optimizer_options settings = {}, B backend = B())
      : host(std::move(parameters)), opt(std::move(backend), settings) {
    for (auto& p : host.parameters) {
      for (auto* all : {&weights_, &gradients_, &changes_})
        all->push_back(opt.backend().allocate(p.size() * sizeof(T)));
      write(weights_.back(), p.weight);
      write(changes_.back(), std::vector<T>(p.size(), static_cast<T>(7.0f)));  // seen where no change is written
      const std::size_t i = weights_.size() - 1;
      opt.add_parameter(add_group(opt, p.options), p.name, view(weights_, i), gradient(i));
      opt.bind_change(p.name, view(changes_, i));
    }
  }
  placed_model(const placed_model&) = delete;
  placed_model& operator=(const placed_model&) = delete;

  void make_gradients(int step) {
    host.make_gradients(step);
    write_gradients();
  }
  void write_gradients() {
    for (std::size_t i = 0; i < gradients_.size(); ++i) write(gradients_[i], host.parameters[i].gradient);
  }
  void write_weights(const std::vector<std::vector<T>>& all) {
    for (std::size_t i = 0; i < weights_.size(); ++i) write(weights_[i], all[i]);
  }

  // Moves a gradient to other memory and binds it there.
  void move_gradient(std::size_t i) {
    old_.push_back(std::move(gradients_[i]));
    gradients_[i] = opt.backend().allocate(host.parameters[i].size() * sizeof(T));
    write(gradients_[i], host.parameters[i].gradient);
    opt.bind_gradient(host.parameters[i].name, gradient(i));
  }
  matrix_ref<const T> gradient(std::size_t i) { return view(gradients_, i); }

  std::vector<std::vector<T>> weights() { return read(weights_); }
  std::vector<std::vector<T>> changes() { return read(changes_); }

 private:
  matrix_ref<T> view(std::vector<typename B::memory>& all, std::size_t i) {
    return host.parameters[i].view(address_of<T>(all[i].data()));
  }
  void write(const typename B::memory& to, const std::vector<T>& x) {
    opt.backend().write(to.data(), x.data(), x.size() * sizeof(T));
  }
  std::vector<std::vector<T>> read(const std::vector<typename B::memory>& all) {
    std::vector<std::vector<T>> values;
    for (std::size_t i = 0; i < all.size(); ++i) {
      values.emplace_back(host.parameters[i].size());
      opt.backend().read(values[i].data(), all[i].data(), values[i].size() * sizeof(T));
    }
    opt.backend().sync();
    return values;
  }

  std::vector<typename B::memory> weights_, gradients_, changes_, old_;
};

}  // namespace normuon::test

#endif
