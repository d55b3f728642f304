#include <doctest/doctest.h>

#include "support/random_cases.hpp"
#include "support/single_matrix.hpp"
#include "support/tolerance.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// The same rule without decay and with a rate of 1, so that a weight of zero becomes -D.
normuon_options bare(normuon_options o) {
  o.learning_rate = 1;
  o.weight_decay = 0;
  return o;
}

// D after a history: the last update alone, from a zero weight.
template <tensor_backend B>
matrix last_direction(const normuon_options& o, const std::vector<matrix>& history) {
  const matrix zero(history[0].rows, history[0].cols);
  single_matrix<B> w(bare(o), zero);
  for (const matrix& G : history) {
    w.reset(zero);
    w.step(G);
  }
  return scaled(-1, w.weight());
}

// In units of roundoff. Norms are sums in double: those of a double update are as uncertain as it is itself.
template <tensor_backend B>
constexpr double units = std::is_same_v<typename B::real, float> ? 4 : 8;

double row_rms(const matrix& A, index_t i) {
  return norm(picked_rows(A, {i})) / std::sqrt(static_cast<double>(A.cols));
}

}  // namespace

TEST_CASE_TEMPLATE("the paper's update has an RMS of 0.2, to four units of roundoff of a float", B, eigen_backend,
                   eigen_backend64) {
  CHECK(rc::check([] {
    random_case c = any_case();
    const matrix D = last_direction<B>(normuon_options::paper(), any_history(c, *rc::gen::inRange(1, 4)));
    const long double rms = std::sqrt(inner(D, D) / static_cast<long double>(c.m * c.n));
    RC_ASSERT(std::abs(static_cast<double>(rms / 0.2L - 1)) <= units<B> * tolerance<typename B::real>::u);
  }));
}

TEST_CASE_TEMPLATE("an update that keeps the norm has that of O, times its ratio of sides, as precisely", B,
                   eigen_backend, eigen_backend64) {
  CHECK(rc::check([] {
    random_case c = any_case();
    normuon_options o =
        *rc::gen::element(normuon_options::reference(), normuon_options::nanogpt(), normuon_options::dion());
    o.nesterov = false;  // U is then the momentum, which can be read
    const std::vector<matrix> history = any_history(c, *rc::gen::inRange(1, 4));
    const auto [m, n] = std::pair(static_cast<double>(c.m), static_cast<double>(c.n));
    const double ratio = o.scale == update_scale::keep_norm_sqrt_ratio ? m / n : std::max(1.0, m / n);
    const matrix D = last_direction<B>(o, history);
    const matrix O = orthogonalized<B>(train<B>(o, history[0], history).M, o.orthogonalizer);
    RC_ASSERT(std::abs(norm(D) / norm(O) / std::sqrt(ratio) - 1) <= units<B> * tolerance<typename B::real>::u);
  }));
}

TEST_CASE("a normalised neuron has an RMS of at most 1 / sqrt(1 - beta2), whatever came before") {
  CHECK(rc::check([] {
    random_case c = any_case();
    normuon_options o = normuon_options::paper();
    o.scale = update_scale::sqrt_max_1_ratio;  // does not look at norms
    o.beta2 = *rc::gen::element(0.0, 0.5, 0.9, 0.95, 0.999);
    o.epsilon = *rc::gen::element(0.0, 1e-10, 1e-3);
    std::vector<matrix> history = any_history(c, *rc::gen::inRange(1, 6));
    if (history.size() > 2) history[1] = matrix(c.m, c.n);
    const matrix D = last_direction<eigen_backend>(o, history);
    const double scale = std::sqrt(std::max(1.0, static_cast<double>(c.m) / static_cast<double>(c.n)));
    const double bound = scale / std::sqrt(1 - o.beta2) * (1 + 4 * tolerance<float>::u);
    for (index_t i = 0; i < c.m; ++i) RC_ASSERT(row_rms(D, i) <= bound);
  }));
}

TEST_CASE("without memory and epsilon all neurons are updated alike") {
  CHECK(rc::check([] {
    random_case c = any_case();
    normuon_options o = normuon_options::paper();
    o.beta2 = 0, o.epsilon = 0;
    const matrix D = last_direction<eigen_backend>(o, any_history(c, 2));
    for (index_t i = 0; i < c.m; ++i) RC_ASSERT(std::abs(row_rms(D, i) / 0.2 - 1) <= 4 * tolerance<float>::u);
  }));
}

TEST_CASE("with neurons of equal second moment and a beta2 of nearly 1, NorMuon goes where Muon goes") {
  CHECK(rc::check([] {
    random_case c = any_case();
    normuon_options o = normuon_options::paper();
    o.scale = update_scale::keep_norm;
    o.beta2 = std::nextafter(1.0, 0.0);
    o.epsilon = 0;
    const matrix G = c.random.gradient(c.m, c.n), zero(c.m, c.n);
    single_matrix<eigen_backend64> neurons(bare(o), zero);
    std::vector<named_tensor> state = neurons.opt.export_state();
    for (named_tensor& t : state)
      if (t.name == "w.second_moment") t.values.assign(t.values.size(), 0.5);
    neurons.opt.import_state(state);
    neurons.step(G);
    o.neuron_axis = neuron_axis::none;
    RC_ASSERT(relative_error(neurons.weight().values, train<eigen_backend64>(bare(o), zero, {G}).W.values) <= 1e-14);
  }));
}

TEST_CASE("a first update goes downhill") {
  CHECK(rc::check([] {
    random_case c = any_case();
    const matrix G = c.random.gradient(c.m, c.n);
    RC_ASSERT(inner(last_direction<eigen_backend>(any_preset(), {G}), G) > 0);
  }));
}

TEST_CASE("beta2 makes no difference at the first step, and one at the second") {
  CHECK(rc::check([] {
    random_case c = any_case(2);
    normuon_options low = normuon_options::paper(), high = low;
    low.beta2 = 0.5, high.beta2 = 0.99;
    low.epsilon = high.epsilon = 0;
    const std::vector<matrix> history = any_history(c, 2), first(history.begin(), history.begin() + 1);
    const auto difference = [&](const std::vector<matrix>& gradients) {
      return relative_error(last_direction<eigen_backend64>(low, gradients).values,
                            last_direction<eigen_backend64>(high, gradients).values);
    };
    RC_ASSERT(difference(first) <= 8 * tolerance<double>::u);
    RC_ASSERT(difference(history) > 1e-6);
  }));
}

TEST_CASE("an average and a heavy ball are one momentum on two scales: updates are equal, bit for bit for a half") {
  CHECK(rc::check([] {
    random_case c = any_case();
    normuon_options average = any_preset();
    average.momentum = *rc::gen::element(0.0, 0.5, 0.75);  // 1 - b1 is a power of two
    average.momentum_form = momentum_form::ema;
    normuon_options ball = average;
    ball.momentum_form = momentum_form::heavy_ball;
    const matrix W = c.random.gaussian(c.m, c.n);
    const std::vector<matrix> history = any_history(c, 3);
    const trained a = train<eigen_backend>(average, W, history), b = train<eigen_backend>(ball, W, history);
    RC_ASSERT(a.W == b.W);
    RC_ASSERT(a.v == b.v);
    RC_ASSERT(a.M == scaled(1 - average.momentum, b.M));
  }));
}

TEST_CASE("a learning rate scales the update, a weight decay the weight, and neither the state") {
  CHECK(rc::check([] {
    random_case c = any_case();
    normuon_options o = any_preset();
    o.decay = decay_form::decoupled;
    o.learning_rate = 0x1p-7;
    const matrix W = c.random.gaussian(c.m, c.n), zero(c.m, c.n);
    const std::vector<matrix> history = any_history(c, 1);
    o.weight_decay = 0;
    const trained once = train<eigen_backend64>(o, zero, history);
    o.learning_rate = 0x1p-3;
    const trained more = train<eigen_backend64>(o, zero, history);
    RC_ASSERT(more.W == scaled(16, once.W));
    o.weight_decay = 2;
    const trained decayed = train<eigen_backend64>(o, W, history);
    RC_ASSERT(relative_error(decayed.W.values, combined(0.75, W, 1, more.W).values) <= 4 * tolerance<double>::u);
    RC_ASSERT(decayed.M == once.M);
    RC_ASSERT(decayed.v == once.v);
  }));
}
