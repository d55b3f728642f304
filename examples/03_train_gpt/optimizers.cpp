#include "optimizers.hpp"

#include <algorithm>
#include <cmath>

namespace gpt {

namespace {

// Muon and NorMuon both make updates of AdamW's size, so their rates compare with its own.
normuon::group_id add_hidden_group(normuon::optimizer<normuon::eigen_backend>& optimizer, method m, const recipe& r) {
  if (m == method::adamw)
    return optimizer.add_group(normuon::adamw_options{.beta2 = r.beta2, .weight_decay = r.weight_decay});
  if (m == method::normuon)
    return optimizer.add_group(normuon::normuon_options{.weight_decay = r.weight_decay, .nesterov = true});
  return optimizer.add_group(
      normuon::muon_options{.weight_decay = r.weight_decay, .scale = normuon::update_scale::match_adamw_rms});
}

double norm_of(const std::vector<named_block<float>>& blocks) {
  double squares = 0;
  for (const named_block<float>& b : blocks)
    squares += Eigen::Map<const Eigen::ArrayXf>(b.view.data, b.view.rows * b.view.cols).cast<double>().square().sum();
  return std::sqrt(squares);
}

}  // namespace

model_optimizer::model_optimizer(method m, const recipe& r, parameters<float>& weights, parameters<float>& gradient,
                                 normuon::thread_pool& threads)
    : method_(m),
      recipe_(r),
      gradient_(gradient.blocks()),
      optimizer_(normuon::eigen_backend(threads)),
      hidden_(add_hidden_group(optimizer_, m, r)),
      others_(optimizer_.add_group(normuon::adamw_options{.beta2 = r.beta2, .weight_decay = r.weight_decay})) {
  const std::vector<named_block<float>> blocks = weights.blocks();
  for (std::size_t i = 0; i < blocks.size(); ++i)
    optimizer_.add_parameter(blocks[i].role == role::hidden ? hidden_ : others_, blocks[i].name, blocks[i].view,
                             gradient_[i].view);
}

void model_optimizer::step(double factor) {
  optimizer_.set_learning_rate(hidden_, learning_rate(factor));
  optimizer_.set_learning_rate(others_, factor * recipe_.other_learning_rate);
  // In this order: where the norm is NaN the scale is 1, and the step holds back the parameter that has the NaN.
  optimizer_.set_gradient_scale(std::min(1.0, recipe_.clip_norm / norm_of(gradient_)));
  optimizer_.step();
}

}  // namespace gpt
