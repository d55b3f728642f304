// The layers of the GPT, each with its forward and its backward pass in Eigen. Activations have one column per token,
// weights one row per output neuron. A layer keeps what its backward pass needs of the last forward pass.
#ifndef TRAIN_GPT_LAYERS_HPP
#define TRAIN_GPT_LAYERS_HPP

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <span>

#include "data.hpp"
#include "parameters.hpp"

namespace gpt {

template <class Scalar>
using activations = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;

// y = g * x / sqrt(mean(x^2) + epsilon) for every column x (Zhang and Sennrich, arXiv 1910.07467). The gain g is 1 x
// width.
template <class Scalar>
class rms_norm {
 public:
  const activations<Scalar>& forward(const weight_matrix<Scalar>& gain, const activations<Scalar>& x) {
    normed_.resizeLike(x), output_.resizeLike(x), inverse_rms_.resize(x.cols());
    const Scalar epsilon = Scalar(1e-6);
    for (index_t t = 0; t < x.cols(); ++t) {
      inverse_rms_[t] = 1 / std::sqrt(x.col(t).squaredNorm() / static_cast<Scalar>(x.rows()) + epsilon);
      normed_.col(t) = x.col(t) * inverse_rms_[t];
      output_.col(t) = normed_.col(t).cwiseProduct(gain.transpose());
    }
    return output_;
  }
  const activations<Scalar>& output() const { return output_; }

  // Overwrites d_gain, and adds the gradient with respect to x to d_x.
  void backward(const weight_matrix<Scalar>& gain, const activations<Scalar>& d_y, weight_matrix<Scalar>& d_gain,
                activations<Scalar>& d_x) {
    d_gain.setZero();
    for (index_t t = 0; t < d_y.cols(); ++t) {
      d_gain.transpose() += d_y.col(t).cwiseProduct(normed_.col(t));
      scaled_.noalias() = d_y.col(t).cwiseProduct(gain.transpose());
      const Scalar share = scaled_.dot(normed_.col(t)) / static_cast<Scalar>(d_y.rows());
      d_x.col(t) += (scaled_ - normed_.col(t) * share) * inverse_rms_[t];
    }
  }

 private:
  activations<Scalar> normed_, output_;
  Eigen::Matrix<Scalar, Eigen::Dynamic, 1> inverse_rms_, scaled_;
};

// y = gelu(x) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), entry by entry (Hendrycks and Gimpel, arXiv 1606.08415).
template <class Scalar>
class gelu {
 public:
  const activations<Scalar>& forward(const activations<Scalar>& x) {
    const Scalar c = Scalar(std::sqrt(2 / std::numbers::pi)), d = c * Scalar(0.044715), half = Scalar(0.5);
    output_.resizeLike(x), slope_.resizeLike(x);
    for (index_t t = 0; t < x.cols(); ++t) {
      const auto z = x.col(t).array();
      square_ = z.square();
      tanh_ = (z * (c + d * square_)).tanh();
      output_.col(t) = half * z * (1 + tanh_);
      slope_.col(t) = half * (1 + tanh_) + half * z * (1 - tanh_.square()) * (c + 3 * d * square_);
    }
    return output_;
  }
  const activations<Scalar>& output() const { return output_; }

  // Returns the gradient with respect to x.
  const activations<Scalar>& backward(const activations<Scalar>& d_y) {
    slope_.array() *= d_y.array();
    return slope_;
  }

 private:
  activations<Scalar> output_, slope_;
  Eigen::Array<Scalar, Eigen::Dynamic, 1> square_, tanh_;
};

// Causal attention. In every sequence and head  P = softmax(K^T Q / sqrt(d)),  Y = V P.  P is context x context, one
// column a query, zero where a key comes after it.
template <class Scalar>
class causal_attention {
 public:
  causal_attention(index_t heads, index_t context) : heads_(heads), context_(context) {}

  activations<Scalar> input;  // queries above keys above values: 3 width x tokens

  const activations<Scalar>& forward() {
    output_.resize(input.rows() / 3, input.cols());
    probabilities_.resize(context_, input.cols() * heads_);
    for_each_head([&](const auto& part, auto P, Scalar scale) {
      P.noalias() = scale * (part(input, 1).transpose() * part(input, 0));
      for (index_t t = 0; t < context_; ++t) {
        auto p = P.col(t);
        p.tail(context_ - 1 - t).setConstant(-std::numeric_limits<Scalar>::infinity());
        p = (p.array() - p.head(t + 1).maxCoeff()).exp();
        p *= 1 / p.sum();
      }
      part(output_, 0).noalias() = part(input, 2) * P;
    });
    return output_;
  }
  const activations<Scalar>& output() const { return output_; }

  // Returns the gradient with respect to the input. With S = K^T Q / sqrt(d):  dV = dY P^T,  dP = V^T dY,
  // dS = P (dP - column sums of P dP), both products entry by entry,  dQ = K dS / sqrt(d),  dK = Q dS^T / sqrt(d).
  const activations<Scalar>& backward(const activations<Scalar>& d_y) {
    d_input_.resizeLike(input);
    for_each_head([&](const auto& part, auto P, Scalar scale) {
      part(d_input_, 2).noalias() = part(d_y, 0) * P.transpose();
      d_scores_.noalias() = part(input, 2).transpose() * part(d_y, 0);
      for (index_t t = 0; t < context_; ++t) {
        const Scalar mean = P.col(t).dot(d_scores_.col(t));
        d_scores_.col(t).array() = P.col(t).array() * (d_scores_.col(t).array() - mean);
      }
      part(d_input_, 0).noalias() = scale * (part(input, 1) * d_scores_);
      part(d_input_, 1).noalias() = scale * (part(input, 0) * d_scores_.transpose());
    });
    return d_input_;
  }

 private:
  // Calls task(part, P, 1/sqrt(d)) for each sequence and head; part(x, i) is what of the i-th width rows of x is
  // theirs.
  template <class Task>
  void for_each_head(Task task) {
    const index_t width = input.rows() / 3, rows = width / heads_;
    for (index_t first = 0; first < input.cols(); first += context_)
      for (index_t h = 0; h < heads_; ++h)
        task([&](auto& x, index_t i) { return x.block(i * width + h * rows, first, rows, context_); },
             probabilities_.middleCols(first * heads_ + h * context_, context_),
             1 / std::sqrt(static_cast<Scalar>(rows)));
  }

  index_t heads_, context_;
  activations<Scalar> probabilities_, output_, d_scores_, d_input_;
};

// Softmax cross entropy: the mean of -log p(target) over all columns of logits.
template <class Scalar>
double cross_entropy(const activations<Scalar>& logits, std::span<const token> targets, activations<Scalar>& d_logits) {
  const Scalar count = static_cast<Scalar>(logits.cols());
  d_logits.resizeLike(logits);
  double sum = 0;
  for (index_t t = 0; t < logits.cols(); ++t) {
    const index_t target = targets[static_cast<std::size_t>(t)];
    const Scalar highest = logits.col(t).maxCoeff();
    d_logits.col(t) = (logits.col(t).array() - highest).exp();
    const Scalar total = d_logits.col(t).sum();
    sum -= static_cast<double>(logits(target, t) - highest - std::log(total));
    d_logits.col(t) *= 1 / (total * count);
    d_logits(target, t) -= 1 / count;
  }
  return sum / static_cast<double>(logits.cols());
}

}  // namespace gpt

#endif
