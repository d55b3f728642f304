// The GPU backend: products by cuBLASLt, everything else by the kernels of kernels/, a step as one CUDA graph, or as
// several on several ranks. Host code only; programs that use it link normuon's kernels, cuBLASLt and the CUDA runtime.
// Weights, gradients and change buffers lie in device memory.
#ifndef NORMUON_BACKENDS_CUBLAS_HPP
#define NORMUON_BACKENDS_CUBLAS_HPP

#include "normuon/backends/cuda/later_read.hpp"
#include "normuon/backends/cuda/operand.hpp"
#include "normuon/backends/cuda/program.hpp"

namespace normuon {

template <std::floating_point Real>
class basic_cublas_backend {
 public:
  using real = Real;
  using memory = cuda_memory;
  using operand = cublas_operand;
  using program = cuda_program;
  using later_read = cuda_later_read;

  // From there on the Gram form is the faster one in what is published of GPUs; we have not measured any.
  static constexpr double gram_aspect = 1.5;

  // Throws error_code::device where there is no such device.
  explicit basic_cublas_backend(const cublas_options& options = {}) : device_(std::make_shared<cuda_device>(options)) {}

  static constexpr bool takes(element_type type) {
    return type != element_type::float64 || std::is_same_v<Real, double>;
  }
  static constexpr bool computes(compute_type type) {
    return type != compute_type::automatic && (type != compute_type::float64 || std::is_same_v<Real, double>);
  }
  static constexpr compute_type default_compute() {
    return std::is_same_v<Real, double> ? compute_type::float64 : compute_type::bfloat16;
  }
  // All matrices of a bank, but no more than fill a device whatever its size: 256 MiB an operand.
  index_t run_length(const operand_shape& s) const {
    const auto one = static_cast<index_t>(operand_bytes({s.rows, s.cols, 1, s.compute}));
    return std::clamp<index_t>((index_t{256} << 20) / std::max<index_t>(one, 1), 1, 4096);
  }
  cudaStream_t stream() const { return device_->stream(); }
  std::string_view kernel_path(compute_type compute) const { return device_->products().path(compute); }
  std::size_t operand_bytes(const operand_shape& s) const { return cublas_operand::bytes(s); }

  memory allocate(std::size_t bytes) {
    refuse_in_recording("memory");
    return device_->use([&] { return memory(device_, bytes); });
  }
  void resize(operand& X, const operand_shape& shape) {
    const std::size_t bytes = cublas_operand::bytes(shape);
    if (bytes > X.memory.size()) X.memory = allocate(bytes);
    X.shape = shape;
  }
  // Through the ring, piece by piece: so the data is the caller's again whatever memory it lies in. The device reads
  // pinned memory when it comes to it.
  void write(void* to, const void* from, std::size_t bytes) {
    refuse_in_recording("a write");
    if (bytes == 0) return;
    device_->use([&] {
      for (std::size_t done = 0; done < bytes; done += cuda_device::ring_bytes) {
        const std::size_t piece = std::min(bytes - done, cuda_device::ring_bytes);
        device_->ring().send(static_cast<std::byte*>(to) + done, piece, device_->stream(), [&](std::byte* sent) {
          std::memcpy(sent, static_cast<const std::byte*>(from) + done, piece);
        });
      }
    });
  }
  void read(void* to, const void* from, std::size_t bytes) {
    refuse_in_recording("a read");
    if (bytes == 0) return;
    device_->use([&] {
      check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, device_->stream()), "cudaMemcpyAsync of ", bytes,
            " bytes from the device");
    });
  }
  // A read into pinned memory of r's own, which is allocated where r has not been so large.
  void read_later(later_read& r, const void* from, std::size_t bytes) {
    refuse_in_recording("a read");
    device_->use([&] { r.begin(from, bytes, device_->stream()); });
  }
  bool is_there(const later_read& r) {
    return device_->use([&] { return r.is_there(); });
  }
  void sync() {
    refuse_in_recording("a wait");
    device_->use([&] { device_->wait(); });
  }

  template <class Task>
  program record(Task&& task) {
    refuse_in_recording("a recording");
    cuda_recording recording;
    recording_ = &recording;
    try {
      task(*this);
    } catch (...) {
      recording_ = nullptr;
      throw;
    }
    recording_ = nullptr;
    return device_->use([&] { return program(device_, std::move(recording)); });
  }
  void refresh(program& p) {
    device_->use([&] { p.refresh(); });
  }
  void replay(program& p) {
    refuse_in_recording("a replay");
    device_->use([&] { p.replay(); });
  }

  void all_finite(flags ok, views G, number scale) {
    operate([&](table_set& t) { return finite_operation{work(t, G, ok), t.add(G), scale}; });
  }
  void count(slots counters, flags ok) {
    operate([&](table_set& t) { return count_operation{work(t, counters.size(), ok), t.add(counters)}; });
  }
  void note_verdicts(verdict* mine, flags ok) {
    operate([&](table_set& t) { return note_verdicts_operation{work(t, ok.size(), ok), mine}; });
  }
  void agree(flags ok, const verdict* all, std::size_t pitch, int ranks) {
    operate([&](table_set& t) { return agree_operation{work(t, ok.size(), ok), all, pitch, ranks}; });
  }
  void blend(views out, number x, views A, number y, views B, flags ok) {
    operate([&](table_set& t) { return blend_operation{work(t, out, ok), t.add(out), t.add(A), t.add(B), x, y}; });
  }
  void momentum(views M, views U, views G, number keep, number take, flags ok) {
    operate([&](table_set& t) { return momentum_operation{work(t, M, ok), t.add(M), t.add(U), t.add(G), keep, take}; });
  }
  void load(operand& X, views U, const norm_formula& formula, slots norms, flags ok, flags sound) {
    operate([&](table_set& t) {
      return load_operation{work(t, U.size(), ok), X.view(), t.add(U), formula, t.add(norms), t.add(sound)};
    });
  }
  void multiply(operand& Y, double alpha, const operand& A, const operand& B, bool transpose, double beta,
                const operand& C) {
    const operand_view y = Y.view(), a = A.view(), b = B.view(), c = beta == 0 ? y : C.view();
    if (y.rows == 0 || y.cols == 0 || y.count == 0) return;
    device_->use([&] {
      const product_plan& plan = device_->products().plan_for(y, a, b, Y.shape.compute, transpose, beta != 0);
      add(product_operation{y, a, b, c, alpha, beta, &plan});
    });
  }
  void gram(operand& A, const operand& X) { multiply_symmetric(A, 1, X, X, true, 0, A); }
  void polynomial(operand& P, double y, double z, const operand& A) { multiply_symmetric(P, z, A, A, false, y, A); }
  void multiply_symmetric(operand& Y, const operand& A, const operand& B, double beta) {
    multiply_symmetric(Y, 1, A, B, false, beta, A);
  }
  void add_identity(operand& P, double x) {
    operate([&](table_set& t) { return identity_operation{work(t, 0, {}), P.view(), x}; });
  }
  void mean_squares(vectors<Real> r, const operand& X, side neurons) {
    operate([&](table_set& t) {
      return mean_squares_operation{work(t, r.data.size(), {}), X.view(), t.add_vectors(r.data), neurons};
    });
  }
  void factors(vectors<Real> v, vectors<Real> f, vectors<Real> r, number beta2, const factor_formula& formula,
               flags ok) {
    operate([&](table_set& t) {
      return factors_operation{work(t, f.data.size(), ok),
                               t.add_vectors(v.data),
                               t.add_vectors(f.data),
                               t.add_vectors(r.data),
                               f.length,
                               beta2,
                               formula};
    });
  }
  void store_scaled(views D, vectors<Real> f, const operand& X, side neurons, flags ok) {
    operate([&](table_set& t) {
      return store_operation{work(t, D.size(), ok), X.view(), t.add(D), t.add_vectors(f.data), neurons};
    });
  }
  void apply(views out, views W, views D, number rate, number decay, const update_formula& formula, flags ok,
             const low_bits& low = {}) {
    operate([&](table_set& t) {
      return apply_operation{work(t, out, ok), t.add(out), t.add(W), t.add(D), rate, decay, formula, tables(t, low)};
    });
  }
  void neuron_step(views out, views W, vectors<Real> f, const operand& X, side neurons, number rate, number decay,
                   const update_formula& formula, flags ok, const low_bits& low = {}) {
    operate([&](table_set& t) {
      return neuron_step_operation{
          work(t, out.size(), ok), X.view(), t.add(out), t.add(W), t.add_vectors(f.data), neurons, rate, decay, formula,
          tables(t, low)};
    });
  }
  void adamw(views out, views W, views M, views V, views G, slots counters, const adamw_numbers& numbers,
             double epsilon, const update_formula& formula, slots norms, flags ok, const low_bits& low = {}) {
    operate([&](table_set& t) {
      return adamw_operation{work(t, out, ok), t.add(out),   t.add(W), t.add(M), t.add(V), t.add(G),
                             t.add(counters),  t.add(norms), numbers,  epsilon,  formula,  tables(t, low)};
    });
  }

 private:
  static low_bits_tables tables(table_set& t, const low_bits& low) {
    return {t.add(low.streams), t.add(low.steps), t.add(low.masters)};
  }
  static run_of_work work(table_set& t, std::size_t count, flags ok) {
    return {.real = element_type_of<Real>, .count = static_cast<index_t>(count), .ok = t.add(ok)};
  }
  // The same for what is shared out by elements: those of `lead`.
  static run_of_work work(table_set& t, views lead, flags ok) {
    run_of_work w = work(t, lead.size(), ok);
    std::vector<index_t> first = first_blocks(lead);
    w.blocks = first.back();
    w.first_block = t.keep(std::move(first));
    return w;
  }

  void refuse_in_recording(const char* what) const {
    if (recording_) fail(error_code::backend, "expected operations only while they are recorded, got ", what);
  }

  // Y <- alpha A B + beta C, with B^T where `transpose` is true, which is symmetric. In blocks it is A B^T either way:
  // what is not transposed is symmetric itself.
  void multiply_symmetric(operand& Y, double alpha, const operand& A, const operand& B, bool transpose, double beta,
                          const operand& C) {
    const operand_view y = Y.view(), a = A.view(), b = B.view();
    const symmetric_plan* const plan = device_->use(
        [&] { return device_->products().symmetric_plan_for(y, a, b, Y.shape.compute, transpose, beta != 0); });
    if (!plan) return multiply(Y, alpha, A, B, transpose, beta, C);
    device_->use([&] { add(symmetric_operation{y, a, b, beta == 0 ? y : C.view(), alpha, beta, plan}); });
    operate([&](table_set& t) { return mirror_operation{work(t, 0, {}), y}; });
  }

  // Notes an operation, or does it at once: either way it is made of tables by make(tables).
  template <class Make>
  void operate(Make&& make) {
    if (recording_) return recording_->add(make(recording_->tables));
    at_once_.clear();
    device_->use([&] { do_now(make(at_once_.tables)); });
  }
  template <class Product>
  void add(const Product& o) {
    if (recording_) recording_->add(o);
    else device_->products().run(o, device_->stream());
  }

  template <class Operation>
  void do_now(const Operation& o) {
    at_once_.add(o);
    const std::size_t bytes = at_once_.tables.bytes();
    std::byte* const tables = device_->lend_tables(bytes);
    at_once_.place(tables, device_->lend_scratch(at_once_.scratch_bytes));
    device_->ring().reserve(bytes);
    if (bytes != 0)
      device_->ring().send(tables, bytes, device_->stream(), [&](std::byte* to) { at_once_.tables.pack(to); });
    at_once_.launch(device_->products(), device_->stream());
  }

  std::shared_ptr<cuda_device> device_;
  cuda_recording* recording_ = nullptr;
  cuda_recording at_once_;
};

using cublas_backend = basic_cublas_backend<float>;     // weights float, bfloat16 or float16; state float
using cublas_backend64 = basic_cublas_backend<double>;  // weights of any type; state and iteration double

static_assert(tensor_backend<cublas_backend> && tensor_backend<cublas_backend64>);
static_assert(has_capture<cublas_backend> && has_fused_momentum<cublas_backend> &&
              has_fused_neuron_step<cublas_backend> && has_kernel_path<cublas_backend> &&
              has_agreement<cublas_backend> && has_refresh<cublas_backend>);

}  // namespace normuon

#endif
