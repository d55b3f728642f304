// Where an optimizer's matrices lie, seen from a program that computes on the host: they are the program's own, or
// copies in the memory of a device, which are sent there before a step and fetched after it.
#ifndef NORMUON_EXAMPLES_PLACEMENT_HPP
#define NORMUON_EXAMPLES_PLACEMENT_HPP

#include <normuon/backend.hpp>
#include <vector>

namespace placement {

// The program's own matrices: nothing is copied.
template <normuon::tensor_backend Backend>
class in_place {
 public:
  using matrix = normuon::matrix_ref<typename Backend::real>;

  matrix add(Backend&, const matrix& m) { return m; }
  void send(Backend&) {}
  void fetch(Backend&) {}
};

// Copies in the backend's memory of matrices whose rows follow each other without gaps.
template <normuon::tensor_backend Backend>
class on_device {
 public:
  using real = typename Backend::real;
  using matrix = normuon::matrix_ref<real>;

  // The copy of m, which has m's numbers and stays where it is as long as this object.
  matrix add(Backend& b, const matrix& m) {
    const copy& c = copies_.emplace_back(copy{m.data, b.allocate(bytes_of(m))});
    b.write(c.memory.data(), m.data, bytes_of(m));
    return normuon::row_major(normuon::address_of<real>(c.memory.data()), m.rows, m.cols);
  }
  // All numbers of the program's matrices, to their copies; the matrices may be written at once.
  void send(Backend& b) {
    for (const copy& c : copies_) b.write(c.memory.data(), c.host, c.memory.size());
  }
  // All numbers of the copies, back; waits for them.
  void fetch(Backend& b) {
    for (const copy& c : copies_) b.read(c.host, c.memory.data(), c.memory.size());
    b.sync();
  }

 private:
  struct copy {
    real* host;
    typename Backend::memory memory;
  };
  static std::size_t bytes_of(const matrix& m) { return static_cast<std::size_t>(m.rows * m.cols) * sizeof(real); }

  std::vector<copy> copies_;
};

}  // namespace placement

#endif
