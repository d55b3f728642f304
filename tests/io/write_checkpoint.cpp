// write_checkpoint FILE: saves a run whose numbers another program can work out by itself; read_by_python.py does.
// Element (i, j) of a weight is 10 i + j, of a gradient 1 + i - j. After one step, at a rate of 0 and by heavy ball,
// the momentum is the gradient.
#include "normuon/backends/eigen.hpp"
#include "normuon/io/checkpoint.hpp"
#include "normuon/optimizer.hpp"

namespace {

using namespace normuon;

template <element T>
struct owned {
  index_t rows, cols;
  std::vector<T> w, g;

  owned(index_t m, index_t n) : rows(m), cols(n) {
    for (index_t i = 0; i < m; ++i) {
      for (index_t j = 0; j < n; ++j) {
        w.push_back(static_cast<T>(static_cast<float>(10 * i + j)));
        g.push_back(static_cast<T>(static_cast<float>(1 + i - j)));
      }
    }
  }
  template <class Optimizer>
  void add_to(Optimizer& opt, group_id group, const std::string& name) {
    const T* const gradient = g.data();
    opt.add_parameter(group, name, row_major(w.data(), rows, cols), row_major(gradient, rows, cols));
  }
};

}  // namespace

int main(int, char** argv) {
  optimizer<eigen_backend> opt(eigen_backend({.threads = 1}));
  muon_options options = muon_options::moonlight();
  options.learning_rate = 0;
  const group_id group = opt.add_group(options);
  owned<float> wide(3, 5), nothing(0, 4);
  owned<bfloat16> tall(4, 2);
  owned<float16> square(3, 3);
  wide.add_to(opt, group,
              "w\xc3\xa4"
              "chter.0/\"wide\"");
  nothing.add_to(opt, group, "nothing");
  tall.add_to(opt, group, "tall");
  square.add_to(opt, group, "square");
  opt.step();
  checkpoint_extras extras;
  extras.tensors["seed"] =
      safetensors::make_tensor<std::int64_t>({2}, std::vector<std::int64_t>{-1, 1234567890123456789});
  extras.tensors["one"] = safetensors::make_tensor<std::int32_t>({}, std::vector<std::int32_t>{-7});
  extras.text["place"] = "epoch 3\n\xe2\x82\xac";
  save_checkpoint(argv[1], opt, extras);
}
