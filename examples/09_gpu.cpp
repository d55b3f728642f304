// Moves a weight that lies in a GPU's memory, in a stream of the trainer's own. Where there is no GPU it says so, and
// ends with status 2.
#include <cstdio>
#include <normuon/backends/cublas.hpp>
#include <normuon/normuon.hpp>
#include <vector>

using namespace normuon;

namespace {

void train() {
  const cuda_stream stream = make_stream();
  std::vector<float> numbers(256 * 128, 0.5F);  // 256 neurons of 128 inputs, row by row
  const std::size_t bytes = numbers.size() * sizeof(float);
  const device_memory weight = make_device_memory(bytes), gradient = make_device_memory(bytes);
  float *const W = static_cast<float*>(weight.get()), *const G = static_cast<float*>(gradient.get());
  const auto copy = [&](void* to, const void* from) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream.get()), "cudaMemcpyAsync of the weight");
  };
  copy(W, numbers.data());

  optimizer<cublas_backend> opt(cublas_backend({.stream = stream.get()}));
  const group_id group = opt.add_group(normuon_options{.learning_rate = 1e-3});
  opt.add_parameter(group, "W", row_major(W, 256, 128), row_major(G, 256, 128));
  for (int step = 0; step < 3; ++step) {
    copy(G, numbers.data());  // in place of kernels of yours, in the same stream, that write the gradient
    opt.step();               // returns at once: everything is in the stream
  }

  for (const parameter_report& p : opt.report().parameters)
    std::printf("%s moved by a norm of %.4f in the last step\n", p.name.c_str(), p.update_norm);
  copy(numbers.data(), W);
  opt.backend().sync();
  std::printf("its first number is %.4f now\n", static_cast<double>(numbers[0]));
}

}  // namespace

int main() {
  try {
    train();
    return 0;
  } catch (const error& e) {
    std::fprintf(stderr, "%s error: %s\n", std::string(name_of(e.code())).c_str(), e.what());
    return 2;
  }
}
