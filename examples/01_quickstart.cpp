#include <Eigen/Core>
#include <iostream>
#include <normuon/backends/eigen.hpp>
#include <normuon/normuon.hpp>

int main() {
  const Eigen::MatrixXf target = Eigen::MatrixXf::Random(32, 16);
  Eigen::MatrixXf A = Eigen::MatrixXf::Random(24, 16), B = Eigen::MatrixXf::Random(32, 24);  // B A is to be the target
  Eigen::MatrixXf grad_A(24, 16), grad_B(32, 24);

  normuon::optimizer<normuon::eigen_backend> opt;
  const auto group = opt.add_group(normuon::normuon_options{.weight_decay = 0.01});
  opt.add_parameter(group, "A", normuon::view_of(A), normuon::view_of(grad_A));
  opt.add_parameter(group, "B", normuon::view_of(B), normuon::view_of(grad_B));

  for (int step = 0; step <= 200; ++step) {
    const Eigen::MatrixXf error = B * A - target;
    if (step % 40 == 0) std::cout << "step " << step << "  loss " << error.squaredNorm() / 2 << '\n';
    grad_A = B.transpose() * error;
    grad_B = error * A.transpose();
    opt.set_learning_rate(group, normuon::linear{0.1, 0, 200}(step));
    opt.step();
  }
}
