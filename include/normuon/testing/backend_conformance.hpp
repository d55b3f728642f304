// The laws of `tensor_backend` as tests. A third party's doctest program needs one line for a backend of its own:
//
//   TEST_CASE("my backend keeps the laws") { normuon::testing::check_backend([] { return my_backend(); }); }
//
// Every law is a subcase with a backend of its own. All memory is the backend's: the host writes and reads it through
// the backend only, so one on a device is tested as it is. Refinements are tested where the backend has them. A broken
// law fails on many shapes: the program's option --abort-after=5 shows the first failures only.
#ifndef NORMUON_TESTING_BACKEND_CONFORMANCE_HPP
#define NORMUON_TESTING_BACKEND_CONFORMANCE_HPP

#include "normuon/testing/conformance/adamw_laws.hpp"
#include "normuon/testing/conformance/door_laws.hpp"
#include "normuon/testing/conformance/iteration_laws.hpp"
#include "normuon/testing/conformance/low_bit_laws.hpp"
#include "normuon/testing/conformance/memory_laws.hpp"
#include "normuon/testing/conformance/neuron_laws.hpp"

namespace normuon::testing {

// Checks all laws on what make() returns. To be called from a doctest test case, once.
template <class Make>
void check_backend(Make make) {
  auto b = make();
  static_assert(tensor_backend<decltype(b)>, "what make() returns is no tensor_backend");

  SUBCASE("it takes its own state and computes its default") { it_takes_its_own_state_and_computes_its_default(b); }
  SUBCASE("memory is zeroed and stays where it is") { memory_is_zeroed_and_stays_where_it_is(b); }
  SUBCASE("bytes make a round trip") { bytes_make_a_round_trip(b); }
  SUBCASE("count adds one") { count_adds_one(b); }
  SUBCASE("each task is done once") { each_task_is_done_once(b); }
  if constexpr (has_agreement<decltype(b)>) {
    SUBCASE("flags become what ranks say together") { flags_become_what_ranks_say_together(b); }
  }
  if constexpr (has_later_reads<decltype(b)>) {
    SUBCASE("a later read holds what was there") { a_later_read_holds_what_was_there(b); }
  }
  if constexpr (has_capture<decltype(b)>) {
    SUBCASE("a recorded task replays with new numbers and tables") {
      a_recorded_task_replays_with_new_numbers_and_tables(b);
    }
  }

  SUBCASE("all_finite finds what is not") { all_finite_finds_what_is_not(b); }
  SUBCASE("all_finite looks at scaled numbers") { all_finite_looks_at_scaled_numbers(b); }
  SUBCASE("all_finite clears flags and never sets them") { all_finite_clears_flags_and_never_sets_them(b); }
  SUBCASE("blend is the formula") { blend_is_the_formula(b); }
  SUBCASE("blend leaves alone what a flag protects") { blend_leaves_alone_what_a_flag_protects(b); }
  SUBCASE("fused momentum has the bits of two blends") { fused_momentum_has_the_bits_of_two_blends(b); }
  SUBCASE("apply is the formula") { apply_is_the_formula(b); }
  SUBCASE("apply changes nothing where a flag protects") { apply_changes_nothing_where_a_flag_protects(b); }
  SUBCASE("adamw is the formula") { adamw_is_the_formula(b); }
  SUBCASE("adamw changes nothing where a flag protects") { adamw_changes_nothing_where_a_flag_protects(b); }

  SUBCASE("apply rounds by the numbers of streams") { apply_rounds_by_the_numbers_of_streams(b); }
  SUBCASE("apply moves masters") { apply_moves_masters(b); }
  SUBCASE("adamw keeps low bits as apply does") { adamw_keeps_low_bits_as_apply_does(b); }
  SUBCASE("a neuron step keeps low bits as its parts do") { a_neuron_step_keeps_low_bits_as_its_parts_do(b); }

  SUBCASE("load divides by the norm") { load_divides_by_the_norm(b); }
  SUBCASE("load rounds once") { load_rounds_once(b); }
  SUBCASE("load is free of scale") { load_is_free_of_scale(b); }
  SUBCASE("load holds back what is not sound") { load_holds_back_what_is_not_sound(b); }
  SUBCASE("store_scaled multiplies neurons") { store_scaled_multiplies_neurons(b); }

  SUBCASE("mean squares are exact for constant lines") { mean_squares_are_exact_for_constant_lines(b); }
  SUBCASE("factors are the formulas") { factors_are_the_formulas(b); }
  SUBCASE("a factor saturates") { a_factor_saturates(b); }
  SUBCASE("factors leave alone what a flag protects") { factors_leave_alone_what_a_flag_protects(b); }
  SUBCASE("a fused neuron step has the bits of its parts") { fused_neuron_step_has_the_bits_of_its_parts(b); }
  SUBCASE("a neuron step changes nothing where a flag protects") {
    neuron_step_changes_nothing_where_a_flag_protects(b);
  }

  SUBCASE("multiply is a product") { multiply_is_a_product(b); }
  SUBCASE("add_identity touches the diagonal") { add_identity_touches_the_diagonal(b); }
  SUBCASE("symmetric products are products") { symmetric_products_are_products(b); }
  SUBCASE("multiply_symmetric is a product") { multiply_symmetric_is_a_product(b); }
  SUBCASE("remainders are kept and rows measured") { remainders_are_kept_and_rows_measured(b); }
  SUBCASE("newton_schulz is the iteration") { newton_schulz_is_the_iteration(b); }
}

}  // namespace normuon::testing

#endif
