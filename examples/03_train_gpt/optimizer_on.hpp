// The optimizer of a model on one backend, whose matrices lie as a placement says.
#ifndef TRAIN_GPT_OPTIMIZER_ON_HPP
#define TRAIN_GPT_OPTIMIZER_ON_HPP

#include <algorithm>
#include <cmath>

#include "optimizers.hpp"
#include "placement.hpp"

namespace gpt {

template <normuon::tensor_backend Backend, template <normuon::tensor_backend> class Placement>
class optimizer_on final : public model_optimizer {
 public:
  optimizer_on(Backend backend, method m, const recipe& r, parameters<float>& weights, parameters<float>& gradient)
      : method_(m),
        recipe_(r),
        gradient_(gradient.blocks()),
        optimizer_(std::move(backend)),
        hidden_(add_hidden_group()),
        others_(optimizer_.add_group(normuon::adamw_options{.beta2 = r.beta2, .weight_decay = r.weight_decay})) {
    const std::vector<named_block<float>> blocks = weights.blocks();
    for (std::size_t i = 0; i < blocks.size(); ++i)
      optimizer_.add_parameter(blocks[i].role == role::hidden ? hidden_ : others_, blocks[i].name,
                               placed_weights_.add(optimizer_.backend(), blocks[i].view),
                               placed_gradient_.add(optimizer_.backend(), gradient_[i].view));
  }

  void step(double factor) override {
    optimizer_.set_learning_rate(hidden_, factor * recipe_.of(method_).learning_rate);
    optimizer_.set_learning_rate(others_, factor * recipe_.of(method_).other_learning_rate);
    // In this order: where the norm is NaN the scale is 1, and the step holds back the parameter that has the NaN.
    optimizer_.set_gradient_scale(std::min(1.0, recipe_.clip_norm / gradient_norm()));
    placed_gradient_.send(optimizer_.backend());
    optimizer_.step();
    placed_weights_.fetch(optimizer_.backend());
  }

  std::size_t state_bytes() const override { return optimizer_.state_bytes(); }

 private:
  // Muon and NorMuon both make updates of AdamW's size, so their rates compare with its own.
  normuon::group_id add_hidden_group() {
    const normuon::orthogonalizer_options iteration{.compute = recipe_.compute};
    const double momentum = recipe_.of(method_).momentum, decay = recipe_.weight_decay;
    if (method_ == method::adamw)
      return optimizer_.add_group(
          normuon::adamw_options{.momentum = momentum, .beta2 = recipe_.beta2, .weight_decay = decay});
    if (method_ == method::normuon)
      return optimizer_.add_group(normuon::normuon_options{
          .momentum = momentum, .weight_decay = decay, .nesterov = true, .orthogonalizer = iteration});
    return optimizer_.add_group(normuon::muon_options{.momentum = momentum,
                                                      .weight_decay = decay,
                                                      .orthogonalizer = iteration,
                                                      .scale = normuon::update_scale::match_adamw_rms});
  }

  double gradient_norm() const {
    double squares = 0;
    for (const named_block<float>& b : gradient_)
      squares += Eigen::Map<const Eigen::ArrayXf>(b.view.data, b.view.rows * b.view.cols).cast<double>().square().sum();
    return std::sqrt(squares);
  }

  method method_;
  recipe recipe_;
  std::vector<named_block<float>> gradient_;
  normuon::optimizer<Backend> optimizer_;
  normuon::group_id hidden_, others_;
  Placement<Backend> placed_weights_, placed_gradient_;
};

// By what a backend computes the recipe's iteration.
template <normuon::has_kernel_path Backend>
std::string path_on(const Backend& backend, const recipe& r) {
  const bool automatic = r.compute == normuon::compute_type::automatic;
  return std::string(backend.kernel_path(automatic ? Backend::default_compute() : r.compute));
}

}  // namespace gpt

#endif
