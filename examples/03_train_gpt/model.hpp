// A small GPT: learned positions, pre-norm layers of causal attention and a GELU network, untied head, no biases.
// Written for any Eigen scalar: float to train, double to check its gradients.
#ifndef TRAIN_GPT_MODEL_HPP
#define TRAIN_GPT_MODEL_HPP

#include "layers.hpp"
#include "parameters.hpp"

namespace gpt {

// One pass over some sequences at a time: forward, loss, backward. Used by one thread at a time.
template <class Scalar>
class network {
 public:
  explicit network(const shape& s) : shape_(s), layers_(static_cast<std::size_t>(s.layers), layer(s)) {}

  // inputs: sequences of `context` tokens, one after the other. Returns logits, vocabulary x tokens.
  const activations<Scalar>& forward(const parameters<Scalar>& w, std::span<const token> inputs) {
    stream_.resize(shape_.width, static_cast<index_t>(inputs.size()));
    for (index_t t = 0; t < stream_.cols(); ++t)
      stream_.col(t) =
          (w.tokens.row(inputs[static_cast<std::size_t>(t)]) + w.positions.row(t % shape_.context)).transpose();
    for (std::size_t i = 0; i < layers_.size(); ++i) layers_[i].forward(w.layers[i], stream_);
    logits_.noalias() = w.head * norm_.forward(w.gain, stream_);
    return logits_;
  }

  // Mean cross entropy of the last forward pass.
  double loss(std::span<const token> targets) { return cross_entropy(logits_, targets, d_logits_); }

  // Overwrites g by the gradient of the last loss. inputs: those of the last forward pass.
  void backward(const parameters<Scalar>& w, std::span<const token> inputs, parameters<Scalar>& g) {
    g.head.noalias() = d_logits_ * norm_.output().transpose();
    d_normed_.noalias() = w.head.transpose() * d_logits_;
    d_stream_.setZero(stream_.rows(), stream_.cols());
    norm_.backward(w.gain, d_normed_, g.gain, d_stream_);
    for (std::size_t i = layers_.size(); i-- > 0;) layers_[i].backward(w.layers[i], d_stream_, g.layers[i]);
    g.tokens.setZero();
    g.positions.setZero();
    for (index_t t = 0; t < d_stream_.cols(); ++t) {
      g.tokens.row(inputs[static_cast<std::size_t>(t)]) += d_stream_.col(t).transpose();
      g.positions.row(t % shape_.context) += d_stream_.col(t).transpose();
    }
  }

 private:
  // x += output attention(norm(x));  x += down gelu(up norm(x))
  class layer {
   public:
    using weights = layer_parameters<Scalar>;
    explicit layer(const shape& s) : attention_(s.heads, s.context) {}

    void forward(const weights& w, activations<Scalar>& x) {
      attention_.input.noalias() = w.query_key_value * attention_norm_.forward(w.attention_gain, x);
      x.noalias() += w.output * attention_.forward();
      hidden_.noalias() = w.up * mlp_norm_.forward(w.mlp_gain, x);
      x.noalias() += w.down * gelu_.forward(hidden_);
    }

    // d_x: the gradient with respect to the layer's output comes in, with respect to its input goes out.
    void backward(const weights& w, activations<Scalar>& d_x, weights& g) {
      g.down.noalias() = d_x * gelu_.output().transpose();
      d_output_.noalias() = w.down.transpose() * d_x;
      const activations<Scalar>& d_hidden = gelu_.backward(d_output_);
      g.up.noalias() = d_hidden * mlp_norm_.output().transpose();
      d_output_.noalias() = w.up.transpose() * d_hidden;
      mlp_norm_.backward(w.mlp_gain, d_output_, g.mlp_gain, d_x);

      g.output.noalias() = d_x * attention_.output().transpose();
      d_output_.noalias() = w.output.transpose() * d_x;
      const activations<Scalar>& d_input = attention_.backward(d_output_);
      g.query_key_value.noalias() = d_input * attention_norm_.output().transpose();
      d_output_.noalias() = w.query_key_value.transpose() * d_input;
      attention_norm_.backward(w.attention_gain, d_output_, g.attention_gain, d_x);
    }

   private:
    rms_norm<Scalar> attention_norm_, mlp_norm_;
    causal_attention<Scalar> attention_;
    gelu<Scalar> gelu_;
    activations<Scalar> hidden_, d_output_;
  };

  shape shape_;
  std::vector<layer> layers_;
  rms_norm<Scalar> norm_;
  activations<Scalar> stream_, logits_, d_stream_, d_logits_, d_normed_;
};

}  // namespace gpt

#endif
