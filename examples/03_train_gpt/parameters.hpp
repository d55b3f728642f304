// The weights of the GPT, or their gradient, and how an optimizer gets to see them: as named views with a role.
#ifndef TRAIN_GPT_PARAMETERS_HPP
#define TRAIN_GPT_PARAMETERS_HPP

#include <fmt/format.h>

#include <Eigen/Core>
#include <cmath>
#include <normuon/matrix_ref.hpp>
#include <random>
#include <string>
#include <vector>

namespace gpt {

using normuon::index_t;

struct shape {
  index_t vocabulary = 0;
  index_t layers = 4;
  index_t width = 128;
  index_t heads = 4;
  index_t context = 128;
};

template <class Scalar>
using weight_matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Matrices are out x in, one row per output neuron, but embeddings have a row per token and gains are 1 x width.
template <class Scalar>
struct layer_parameters {
  weight_matrix<Scalar> attention_gain, query_key_value, output, mlp_gain, up, down;

  explicit layer_parameters(index_t width)
      : attention_gain(1, width),
        query_key_value(3 * width, width),
        output(width, width),
        mlp_gain(1, width),
        up(4 * width, width),
        down(width, 4 * width) {}
};

enum class role { embedding, hidden, head, vector };

template <class Scalar>
struct named_block {
  std::string name;
  gpt::role role;
  normuon::matrix_ref<Scalar> view;
};

// Standard deviations of the normal numbers that weights begin as. Gains begin at one.
struct initial_deviations {
  double embedding = 0.2;
  double matrix = 1;      // times 1 / sqrt(inputs), of all matrices but
  double branch_end = 0;  // times 1 / sqrt(inputs), of output and down: at first a layer passes on what it gets
};

template <class Scalar>
struct parameters {
  weight_matrix<Scalar> tokens, positions, gain, head;
  std::vector<layer_parameters<Scalar>> layers;

  explicit parameters(const shape& s)
      : tokens(s.vocabulary, s.width),
        positions(s.context, s.width),
        gain(1, s.width),
        head(s.vocabulary, s.width),
        layers(static_cast<std::size_t>(s.layers), layer_parameters<Scalar>(s.width)) {}

  // All blocks in a fixed order, none of which is in two. Queries, keys and values are matrices of their own: row
  // blocks of one. Valid as long as this object stays where it is.
  std::vector<named_block<Scalar>> blocks() {
    const auto view = [](weight_matrix<Scalar>& m) { return normuon::row_major(m.data(), m.rows(), m.cols()); };
    std::vector<named_block<Scalar>> all{{"tokens", role::embedding, view(tokens)},
                                         {"positions", role::embedding, view(positions)}};
    for (std::size_t i = 0; i < layers.size(); ++i) {
      layer_parameters<Scalar>& l = layers[i];
      const index_t width = l.query_key_value.cols();
      const auto add = [&](const char* name, gpt::role role, normuon::matrix_ref<Scalar> m) {
        all.push_back({fmt::format("layer{}.{}", i, name), role, m});
      };
      add("attention_gain", role::vector, view(l.attention_gain));
      add("query", role::hidden, view(l.query_key_value).row_block(0, width));
      add("key", role::hidden, view(l.query_key_value).row_block(width, width));
      add("value", role::hidden, view(l.query_key_value).row_block(2 * width, width));
      add("output", role::hidden, view(l.output));
      add("mlp_gain", role::vector, view(l.mlp_gain));
      add("up", role::hidden, view(l.up));
      add("down", role::hidden, view(l.down));
    }
    all.push_back({"gain", role::vector, view(gain)});
    all.push_back({"head", role::head, view(head)});
    return all;
  }

  void initialise(std::uint64_t seed, const initial_deviations& initial = {}) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    for (const named_block<Scalar>& b : blocks()) {
      const bool ends_branch = b.name.ends_with(".output") || b.name.ends_with(".down");
      const double deviation = b.role == role::embedding ? initial.embedding
                                                         : (ends_branch ? initial.branch_end : initial.matrix) /
                                                               std::sqrt(double(b.view.cols));
      for (index_t i = 0; i < b.view.rows; ++i)
        for (index_t j = 0; j < b.view.cols; ++j)
          b.view(i, j) = static_cast<Scalar>(b.role == role::vector ? 1 : deviation * normal(random));
    }
  }
};

}  // namespace gpt

#endif
