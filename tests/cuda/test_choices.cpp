// What the GPU backend chooses by timing, run on the stand-in, whose clock a test sets: that the fastest is used, named
// in the report, kept in a file, and that a file is trusted only where it is whole and of this place.
#include <doctest/doctest.h>

#include "cuda/placed_model.hpp"
#include "normuon/backends/cublas.hpp"
#include "normuon/io/checkpoint.hpp"
#include "standin.hpp"
#include "support/files.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

std::vector<owned_parameter<float>> some_matrices(compute_type compute = compute_type::automatic) {
  normuon_options paper = normuon_options::paper(), reference = normuon_options::reference();
  paper.orthogonalizer.compute = reference.orthogonalizer.compute = compute;
  std::vector<owned_parameter<float>> all;
  all.emplace_back("wide", paper, 40, 71, 3);
  all.emplace_back("square", reference, 33, 33);
  return all;
}

struct trained {
  std::vector<std::vector<float>> weights;
  std::string path;
  long waits = 0, products = 0;
};
trained one_step(const product_options& options, compute_type compute = compute_type::automatic) {
  placed_model<cublas_backend> m(some_matrices(compute), {}, cublas_backend({.products = options}));
  m.make_gradients(0);
  standin::forget_calls();
  m.opt.step();
  trained t{m.weights(), {}, standin::waits(), standin::calls("cublasLtMatmul")};
  t.path = m.opt.report().parameters[0].iteration->path;
  return t;
}

// A stand-in whose algorithm `fast` takes a second for a product, and all others ten.
void restart_with(standin::algorithm fast) {
  standin::restart();
  for (const auto a : {standin::algorithm::plain, standin::algorithm::aligned, standin::algorithm::workspace})
    standin::set_time(a, a == fast ? 1000 : 10000);
}
trained first_of(standin::algorithm only, compute_type compute = compute_type::automatic) {
  standin::restart();
  standin::set_algorithms({only});
  return one_step({}, compute);
}

constexpr auto timed = algorithm_choice::timed;

}  // namespace

TEST_CASE("the algorithm that is the fastest makes the products, and the report has a hash of the choices") {
  std::set<std::string> paths;
  for (const auto fast : {standin::algorithm::plain, standin::algorithm::aligned, standin::algorithm::workspace}) {
    const trained expected = first_of(fast);
    restart_with(fast);
    const trained found = one_step({.algorithms = timed});
    CHECK(same_bits(found.weights, expected.weights));
    CHECK(expected.path == "cublasLt bfloat16");
    CHECK(found.path.starts_with("cublasLt bfloat16, timed "));
    restart_with(fast);
    CHECK(one_step({.algorithms = timed}).path == found.path);
    paths.insert(found.path);
  }
  CHECK(paths.size() == 3);
}

TEST_CASE("nothing is timed unless it is asked for") {
  restart_with(standin::algorithm::plain);
  one_step({});
  CHECK(standin::calls("cudaEventElapsedTime") == 0);
}

TEST_CASE("symmetric products take the form that is the fastest") {
  const auto products = [](double each, double per_thousand) {
    standin::restart();
    for (const auto a : {standin::algorithm::plain, standin::algorithm::aligned, standin::algorithm::workspace})
      standin::set_time(a, each, per_thousand);
    placed_model<cublas_backend> m(
        some_matrices(), {}, cublas_backend({.products = {.symmetric = symmetric_form::timed, .least_block = 8}}));
    m.make_gradients(0);
    m.opt.step();
    m.make_gradients(1);
    standin::run_everything();
    const long before = standin::work_done();
    m.opt.step();
    standin::run_everything();
    return standin::work_done() - before;
  };
  const long whole = products(1000, 0);     // what counts is the number of calls
  const long triangle = products(0, 1000);  // what counts is the work
  CHECK(triangle > whole);
}

TEST_CASE("choices that are kept in a file are made once") {
  const scratch_folder folder;
  const product_options options{
      .algorithms = timed, .symmetric = symmetric_form::timed, .least_block = 8, .choices_file = folder / "choices"};
  // In 16 bits most algorithms end alike.
  constexpr auto compute = compute_type::float32;
  for (const auto other : {standin::algorithm::aligned, standin::algorithm::plain})
    CHECK_FALSE(same_bits(first_of(other, compute).weights, first_of(standin::algorithm::workspace, compute).weights));
  restart_with(standin::algorithm::workspace);
  const trained first = one_step(options, compute);
  const std::string written = get(folder / "choices");
  CHECK(written.find("normuon's stand-in for a GPU with") != std::string::npos);
  // Another one would be the fastest now, were it timed.
  restart_with(standin::algorithm::plain);
  const trained second = one_step(options, compute);
  CHECK(same_bits(second.weights, first.weights));
  CHECK(second.path == first.path);
  CHECK(second.products < first.products);
  CHECK(standin::calls("cudaEventElapsedTime") == 0);
  CHECK(get(folder / "choices") == written);
  CHECK(folder.entries() == 1);
}

TEST_CASE("a run with timed choices goes on in another process from its file of choices, and from no other") {
  const scratch_folder folder;
  const auto started = [&](const char* choices) {
    return std::make_unique<placed_model<cublas_backend>>(
        some_matrices(), optimizer_options{},
        cublas_backend({.products = {.algorithms = timed,
                                     .symmetric = symmetric_form::timed,
                                     .least_block = 8,
                                     .choices_file = folder / choices}}));
  };
  const auto step = [](placed_model<cublas_backend>& m, int index) {
    m.make_gradients(index);
    m.opt.step();
  };
  restart_with(standin::algorithm::workspace);
  auto m = started("choices");
  step(*m, 0);
  save_checkpoint(folder / "saved", m->opt);
  step(*m, 1);
  const auto expected = m->weights();
  m.reset();

  restart_with(standin::algorithm::plain);  // the fastest now, were it timed
  m = started("choices");
  load_checkpoint(folder / "saved", m->opt);
  step(*m, 1);
  CHECK(same_bits(m->weights(), expected));
  m = started("others");
  const auto load = [&] { load_checkpoint(folder / "saved", m->opt); };
  CHECK(refusal_of(load).is(error_code::state, "kernel_path: expected 'cublasLt bfloat16, timed"));
  step(*m, 1);
  CHECK(refusal_of(load).is(error_code::state, "load_options::other_kernel_path"));
  CHECK(m->opt.report().parameters[0].iteration->path.starts_with("cublasLt bfloat16, timed "));
}

TEST_CASE("processes that share a file of choices keep each other's, and each its own") {
  const scratch_folder folder;
  product_choices first("a device", folder / "choices"), second("a device", folder / "choices");
  first.add("a", "first's");
  second.add("b", "second's");
  first.add("c", "first's");
  second.add("a", "second's");
  CHECK(first.find("b") == "second's");
  CHECK(first.find("a") == "first's");
  CHECK(product_choices("a device", folder / "choices").hash() == second.hash());
  CHECK(second.find("c") == "first's");
  CHECK(first.hash() != second.hash());
}

TEST_CASE("choices of another device or library are made anew, and so are algorithms that are suggested no more") {
  const scratch_folder folder;
  const product_options options{.algorithms = timed, .choices_file = folder / "choices"};
  restart_with(standin::algorithm::workspace);
  const trained first = one_step(options);
  std::string text = get(folder / "choices");
  CHECK(text.find(", added to another = ") != std::string::npos);  // B X + a X is not timed as a mere product
  const std::size_t at = text.find("runtime ");
  text.replace(at, 9, "runtime 9");
  text.resize(text.rfind("hash = "));
  put(folder / "choices", text + "hash = " + product_choices::hexadecimal(hash_of(text)) + "\n");
  restart_with(standin::algorithm::plain);
  CHECK_FALSE(one_step(options).path == first.path);
  restart_with(standin::algorithm::workspace);
  standin::set_algorithms({standin::algorithm::aligned});
  CHECK(same_bits(one_step(options).weights, first_of(standin::algorithm::aligned).weights));
}

TEST_CASE("a file that is no whole file of choices is refused, whatever it holds, and says why") {
  const scratch_folder folder;
  const auto path = folder / "choices";
  const product_options options{.algorithms = timed, .choices_file = path};
  restart_with(standin::algorithm::plain);
  one_step(options);
  const std::string good = get(path);
  const auto refused = [&](const std::string& text) {
    put(path, text);
    return file_refusal([&] { cublas_backend({.products = options}); });
  };
  CHECK(refused(good).empty());
  CHECK(refused("").find("expected its title") != std::string::npos);
  CHECK(refused("something else\n").find("expected its title") != std::string::npos);
  for (const std::size_t length : {good.size() - 1, good.size() / 2, std::size_t{60}})
    CHECK_FALSE(refused(good.substr(0, length)).empty());
  for (std::size_t at = 0; at < good.size(); at += 7) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    CHECK_FALSE(refused(bad).empty());
  }
  CHECK(refused(std::string((std::size_t{1} << 20) + 1, 'x')).find("at most 1 MiB") != std::string::npos);
  // A hash can be forged; then what a line says is an algorithm that the library suggests, or is not used.
  std::string forged = good.substr(0, good.rfind("hash = "));
  const std::size_t value = forged.find(" = ") + 3;
  forged.replace(value, 16, "ffffffffffffffff");
  CHECK(refused(forged + "no value\nhash = " + product_choices::hexadecimal(hash_of(forged + "no value\n")) + "\n")
            .find("a key and a value") != std::string::npos);
  put(path, forged + "hash = " + product_choices::hexadecimal(hash_of(forged)) + "\n");
  CHECK(same_bits(one_step(options).weights, first_of(standin::algorithm::plain).weights));
}
