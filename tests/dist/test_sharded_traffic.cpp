// What travels in a step on several ranks, and what becomes of it where something goes wrong on the way.
#include "dist/sharded_runs.hpp"
#include "support/refusal.hpp"

using namespace normuon;
using namespace normuon::test;

namespace {

// What a rank of a run ended with: nothing, or an error; one that was stopped, with none of ours.
refusal end_of(const loopback_result& result, int rank) {
  return refusal_of([&] {
    try {
      if (const std::exception_ptr& e = result.thrown[static_cast<std::size_t>(rank)]) std::rethrow_exception(e);
    } catch (const loopback_stopped&) {
    }
  });
}

// What all ranks have sent in `steps` steps after the first.
struct sent {
  std::size_t legs = 0, payload = 0, gathers = 0;
};
sent sent_in(int ranks, const std::vector<spread_parameter>& parameters, int steps, const optimizer_options& o = {}) {
  const auto counts_after = [&](int n) {
    const loopback_result result = run_loopback(ranks, {}, [&](loopback engine) {
      spread_trainer<eigen_backend, loopback, float> trainer(parameters, std::move(engine), o,
                                                             eigen_backend({.threads = 1}));
      for (int step = 0; step < n; ++step) trainer.step(step);
    });
    result.rethrow_first();
    sent s;
    for (const loopback_counts& c : result.counts) s.legs += c.legs, s.payload += c.bytes, s.gathers += c.gathers;
    return s;
  };
  const sent one = counts_after(1), more = counts_after(1 + steps);
  const std::size_t legs = more.legs - one.legs;
  return {legs, more.payload - one.payload - legs * sizeof(leg_header), more.gathers - one.gathers};
}

// The least that must travel with one owner for each matrix: U in and D out of what the owner does not hold itself.
std::size_t least_payload(const std::vector<spread_parameter>& parameters, int ranks, std::size_t width) {
  std::vector<sharded_matrix> matrices;
  for (const spread_parameter& p : parameters)
    for (index_t b = 0; b < p.batch; ++b)
      matrices.push_back({.name = p.name,
                          .rows = p.rows,
                          .cols = p.cols,
                          .where = p.how(ranks),
                          .matrix_rule = !std::holds_alternative<adamw_options>(p.options),
                          .entry = b});
  const ownership owners = assign_owners(matrices, ranks);
  index_t elements = 0;
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    const sharded_matrix& a = matrices[i];
    if (owners.owner[i] == no_owner) continue;
    if (a.where.is_replicated()) elements += (ranks - 1) * a.elements();
    else elements += 2 * (a.elements() - a.where.held(a.rows, a.cols, owners.owner[i], ranks));
  }
  return static_cast<std::size_t>(elements) * width;
}

}  // namespace

TEST_CASE("in a step travels what must, once each way, after one small gather") {
  for (const int ranks : {2, 3, 5, 8}) {
    CAPTURE(ranks);
    for (const std::vector<spread_parameter>& parameters :
         {small_model(), all_layouts({"paper", normuon_options::paper()})}) {
      const sent s = sent_in(ranks, parameters, 2);
      CHECK(s.payload == 2 * least_payload(parameters, ranks, sizeof(float)));
      CHECK(s.gathers == 2 * static_cast<std::size_t>(ranks));
      const sent narrow = sent_in(ranks, parameters, 1, {.wire = element_type::bfloat16});
      CHECK(narrow.payload == least_payload(parameters, ranks, sizeof(bfloat16)));
    }
  }
}

TEST_CASE("what one rank alone holds does not travel, and elementwise rules send nothing") {
  std::vector<spread_parameter> parameters = small_model();
  parameters.resize(1);
  for (int r = 0; r < 4; ++r)
    parameters.push_back({"expert " + std::to_string(r), normuon_options::paper(), 8, 6, 1,
                          [r](int P) { return layout::owned(r % P); }});
  parameters.push_back({"adamw", adamw_options{}, 9, 9, 1, [](int) { return layout::replicated(); }});
  parameters.erase(parameters.begin());
  CHECK(sent_in(4, parameters, 2).legs == 0);
  check_same_on({4}, parameters);
}

TEST_CASE("legs that are lost, cut, doubled, swapped, damaged or late end in a named error and no wrong update") {
  constexpr int steps = 8;
  const std::vector<spread_parameter> parameters = small_model();
  std::vector<whole_tensors> right;  // after so many steps
  for (int n = 0; n <= steps; ++n) right.push_back(trained_alone<float>(parameters, {.steps = n}, one_step));
  for (const auto kind : {loopback_fault_kind::drop, loopback_fault_kind::truncate, loopback_fault_kind::duplicate,
                          loopback_fault_kind::reorder, loopback_fault_kind::corrupt, loopback_fault_kind::delay})
    for (std::size_t n = 0; n < 12; ++n) {
      if (n == 0 && kind == loopback_fault_kind::corrupt) continue;  // a byte that opens a path says nothing
      CAPTURE(static_cast<int>(kind));
      CAPTURE(n);
      const loopback_result result = run_loopback(3, {.faults = {{kind, 1, 0, n}}}, [&](loopback engine) {
        spread_trainer<eigen_backend, loopback, float> trainer(parameters, std::move(engine), {},
                                                               eigen_backend({.threads = 1}));
        int done = 0;
        try {
          for (; done < steps; ++done) trainer.step(done);
        } catch (const error&) {
          // Whatever has moved has moved by the right update, and nothing twice.
          for (std::size_t i = 0; i < parameters.size(); ++i) {
            const auto& part = trainer.parts[i];
            std::vector<float> w = part.weight;
            const auto right_part = [&](int step) {
              part.copy(parameters[i], right[static_cast<std::size_t>(step)].at(parameters[i].name), w, true);
              return w;
            };
            CHECK((part.weight == right_part(done) || part.weight == right_part(done + 1)));
          }
          CHECK(refusal_of([&] { trainer.step(done); }).code.has_value());
          throw;
        }
      });
      const refusal r = end_of(result, 0);
      CHECK(r.is(error_code::engine, "rank 1"));
      // The first opens the path, and one that comes twice may be found by the next gather.
      if (n > 0 && kind != loopback_fault_kind::duplicate) CHECK(r.is(error_code::engine, " of bucket "));
    }
}

TEST_CASE("a rank that stops in any phase ends in a named error on every other, within the deadline") {
  for (std::size_t verbs = 0; verbs < 60; ++verbs) {
    CAPTURE(verbs);
    const loopback_result result = run_loopback(3, {.deadline = std::chrono::milliseconds(100)}, [&](loopback engine) {
      if (engine.rank() == 1) engine.stop_after(verbs);
      spread_trainer<eigen_backend, loopback, float> trainer(small_model(), std::move(engine), {},
                                                             eigen_backend({.threads = 1}));
      for (int step = 0; step < 30; ++step) trainer.step(step);
    });
    for (const int rank : {0, 2}) {
      const refusal r = end_of(result, rank);
      CHECK(r.is(error_code::engine, "waited"));
    }
    CHECK(result.time <= std::chrono::seconds(1));
  }
}

TEST_CASE("ranks that plan otherwise all say in what, before anything moves") {
  const auto said = [](auto&& change) {
    const loopback_result result = run_loopback(3, {}, [&](loopback engine) {
      std::vector<spread_parameter> parameters = small_model();
      optimizer_options options;
      if (engine.rank() == 2) change(parameters, options);
      spread_trainer<eigen_backend, loopback, float> trainer(parameters, std::move(engine), options,
                                                             eigen_backend({.threads = 1}));
      trainer.step(0);
    });
    const std::string message = end_of(result, 0).message;
    for (int rank = 0; rank < 3; ++rank) {
      CHECK(end_of(result, rank).code == error_code::option);
      CHECK(end_of(result, rank).message == message);
    }
    return message;
  };
  const auto has = [](const std::string& message, const std::string& piece) {
    return message.find(piece) != std::string::npos;
  };
  const auto differs = [&](auto&& change, const std::string& here, const std::string& there) {
    return has(said(change), "rank 0 has " + here + "; rank 2 has " + there);
  };
  CHECK(differs([](auto& all, auto&) { all[1].rows = 21; }, "parameter.flat: group 1, float32, 20 x 12",
                "parameter.flat: group 1, float32, 21 x 12"));
  CHECK(differs([](auto& all, auto&) { all[0].name = "lines"; }, "parameter.rows: group 0, float32, 12 x 20",
                "parameter.lines: group 0, float32, 12 x 20"));
  CHECK(differs([](auto& all, auto&) { all[0].how = [](int) { return layout::cols(); }; }, "layout of 'rows': rows",
                "layout of 'rows': cols"));
  CHECK(differs([](auto&, auto& o) { o.wire = element_type::bfloat16; }, "wire: float32", "wire: bfloat16"));
  CHECK(differs([](auto& all, auto&) { std::get<normuon_options>(all[0].options).beta2 = 0.9; }, "group.0.beta2: 0.95",
                "group.0.beta2: 0.9"));
  const auto narrow = [](auto& all, auto&) {
    std::get<normuon_options>(all[0].options).orthogonalizer.compute = compute_type::bfloat16;
  };
  CHECK(differs(narrow, "group.0.compute: float32", "group.0.compute: bfloat16"));
  CHECK(differs([](auto& all, auto&) { all.pop_back(); }, "groups: 4", "groups: 3"));
}

TEST_CASE("ranks whose processors take other kernels say so before anything moves") {
  const std::vector<spread_parameter> parameters = small_model();
  const auto path_of = [](cpu_path path) { return eigen_backend({.path = path}).kernel_path(compute_type::float32); };
  const std::string best(path_of(cpu_path::automatic)), least(path_of(cpu_path::portable));
  if (best == least) return;  // a processor that has no other
  const loopback_result result = run_loopback(2, {}, [&](loopback engine) {
    const cpu_path path = engine.rank() == 1 ? cpu_path::portable : cpu_path::automatic;
    spread_trainer<eigen_backend, loopback, float> trainer(parameters, std::move(engine), {},
                                                           eigen_backend({.threads = 1, .path = path}));
    trainer.step(0);
  });
  for (const int rank : {0, 1})
    CHECK(end_of(result, rank)
              .is(error_code::option, "rank 0 has group.0.kernel_path: " + best,
                  "rank 1 has group.0.kernel_path: " + least));
}

TEST_CASE("ranks that chose other owners say so before anything moves") {
  const loopback_result result = run_loopback(2, {}, [&](loopback engine) {
    const int rank = engine.rank();
    std::vector<float> weight(600), gradient(600);
    optimizer<eigen_backend, loopback> opt(eigen_backend(), {}, std::move(engine));
    const group_id g = opt.add_group(normuon_options::paper());
    for (const char* name : {"b", "a"}) {
      const std::size_t at = name[0] == 'a' ? 0 : 300;
      opt.add_parameter(g, name, shard(&weight[at], 20, 30, layout::rows(), rank, 2),
                        shard(&gradient[at], 20, 30, layout::rows(), rank, 2));
      if (rank == 0) opt.list_state();  // which decides who owns what was added so far
    }
    opt.step();
  });
  for (const int rank : {0, 1})
    CHECK(end_of(result, rank).is(error_code::option, "owner of 'b': 0", "owner of 'b': 1"));
}

TEST_CASE("owners that were chosen for a plan that was refused are chosen anew for the next") {
  const std::vector<spread_parameter> model = {
      {"a", normuon_options::paper(), 20, 20, 1, [](int) { return layout::rows(); }},
      {"b", normuon_options::paper(), 20, 20, 1, [](int) { return layout::rows(); }}};
  const auto repaired = [&](auto& trainer, int step) {
    std::vector<float> other(900);
    const int rank = trainer.opt.engine().rank(), ranks = trainer.opt.engine().size();
    if (step == 0 && ranks > 1) {
      if (rank == 1)  // the heaviest, so that the others would have other owners
        trainer.opt.add_parameter(group_id{0}, "too much", shard(other.data(), 30, 30, layout::rows(), rank, ranks));
      CHECK(refusal_of([&] { trainer.opt.prepare(); }).code == error_code::option);
      if (rank == 1) trainer.opt.remove_parameter("too much");
    }
    trainer.step(step);
  };
  check_same_on({2, 3}, model, {}, repaired);
}

TEST_CASE("a poisoned optimizer of several ranks stays poisoned, whatever is imported") {
  run_loopback(2, {.deadline = std::chrono::milliseconds(100)}, [&](loopback engine) {
    const int rank = engine.rank();
    spread_trainer<eigen_backend, loopback, float> trainer(small_model(), std::move(engine), {},
                                                           eigen_backend({.threads = 1}));
    trainer.step(0);
    const std::vector<named_tensor> state = trainer.opt.export_state();
    if (rank == 1) return;
    CHECK(refusal_of([&] { trainer.step(1); }).is(error_code::engine, "rank 1"));
    CHECK(refusal_of([&] { trainer.opt.import_state(state); }).code == error_code::poisoned);
    CHECK(refusal_of([&] { trainer.step(1); }).code == error_code::poisoned);
  }).rethrow_first();
}
