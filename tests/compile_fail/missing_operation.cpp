// expect: b.multiply(Y
// A backend without `multiply`: the message names the part of the concept that is missing.
#include <normuon/normuon.hpp>

struct no_products {
  using real = float;
  struct memory {
    std::byte* data() const { return nullptr; }
    std::size_t size() const { return 0; }
  };
  struct operand {};

  static constexpr bool takes(normuon::element_type) { return true; }
  static constexpr bool computes(normuon::compute_type) { return true; }
  static constexpr normuon::compute_type default_compute() { return normuon::compute_type::float32; }
  normuon::index_t run_length(const normuon::operand_shape&) const { return 1; }
  std::size_t operand_bytes(const normuon::operand_shape&) const { return 0; }
  memory allocate(std::size_t) { return {}; }
  void resize(operand&, const normuon::operand_shape&) {}
  void write(void*, const void*, std::size_t) {}
  void read(void*, const void*, std::size_t) {}
  void sync() {}
  void all_finite(normuon::flags, normuon::views, normuon::number) {}
  void count(normuon::slots, normuon::flags) {}
  void blend(normuon::views, normuon::number, normuon::views, normuon::number, normuon::views, normuon::flags) {}
  void load(operand&, normuon::views, const normuon::norm_formula&, normuon::slots, normuon::flags, normuon::flags) {}
};

normuon::optimizer<no_products> refused;
