#include <doctest/doctest.h>

#include "normuon/routing.hpp"

using namespace normuon;

namespace {

using shape = std::vector<index_t>;

route_to rule_of(const std::string& name, const shape& extents) { return propose_route({name, extents}).rule; }
std::string reason_of(const std::string& name, const shape& extents) { return propose_route({name, extents}).reason; }

}  // namespace

TEST_CASE("hidden weights, experts and convolutions go to a matrix rule") {
  CHECK(rule_of("blocks.0.attn.q_proj.weight", {128, 128}) == route_to::matrix_rule);
  CHECK(rule_of("mlp/fc1/kernel", {512, 128}) == route_to::matrix_rule);
  CHECK(rule_of("moe.experts.w1", {8, 512, 128}) == route_to::matrix_rule);
  CHECK(rule_of("layer2.conv1.weight", {64, 64, 3, 3}) == route_to::matrix_rule);
  CHECK(rule_of("encoder.conv1d.weight", {64, 80, 3}) == route_to::matrix_rule);
  CHECK(reason_of("moe.experts.w1", {8, 512, 128}) == "a batch of matrices");
  for (const std::string name : {"encoder.conv1d.weight", "conv1.weight", "encoder.conv12", "conv1d_2"})
    CHECK_MESSAGE(reason_of(name, {64, 80, 3}) == "a convolution, one row per output channel", name);
}

TEST_CASE("vectors and scalars go to AdamW, however many sides of length 1 they have") {
  CHECK(rule_of("bias", {128}) == route_to::adamw);
  CHECK(rule_of("scale", {}) == route_to::adamw);
  CHECK(rule_of("gain", {1, 128}) == route_to::adamw);
  CHECK(rule_of("lambda", {1, 1, 1}) == route_to::adamw);
  CHECK(reason_of("gain", {1, 128}) == "a vector or scalar");
}

TEST_CASE("embeddings, heads and norms go to AdamW although they are matrices") {
  for (const std::string name :
       {"wte.weight", "transformer.wpe", "tok_embed", "model.embeddings.word", "lm_head.weight", "classifier",
        "unembed", "ln_f", "blocks.3.norm.weight", "q_bias", "RMSNorm.scale", "Head", "token_embd.weight",
        "position_embd.weight", "emb2", "norm1.weight", "head", "output.weight", "output"})
    CHECK_MESSAGE(rule_of(name, {64, 128}) == route_to::adamw, name);
}

TEST_CASE("a word counts only as a whole word") {
  CHECK(rule_of("overhead.weight", {64, 64}) == route_to::matrix_rule);
  CHECK(rule_of("headless", {64, 64}) == route_to::matrix_rule);
  CHECK(rule_of("normal_map", {64, 64}) == route_to::matrix_rule);
  for (const std::string end_of_a_branch :
       {"layer0.output", "blk.0.attn_output.weight", "encoder.0.output.dense.weight"})
    CHECK_MESSAGE(rule_of(end_of_a_branch, {64, 64}) == route_to::matrix_rule, end_of_a_branch);
  for (const std::string numbered : {"blocks.3.attn.head1.q.weight", "head0", "attn.HEAD12"})  // of attention
    CHECK_MESSAGE(rule_of(numbered, {64, 64}) == route_to::matrix_rule, numbered);
  CHECK(has_word("a.head", "head"));
  CHECK(has_word("head_0", "head"));
  CHECK(has_word("HEAD", "head"));
  CHECK(has_word("a.head12.b", "head"));  // numbered
  CHECK(has_word("conv1d", "conv1d"));
  CHECK(has_word("conv1d2", "conv1d"));
  CHECK(has_word("fc1", "fc1"));
  CHECK_FALSE(has_word("conv1d", "conv"));
  CHECK_FALSE(has_word("fc1", "fc2"));
  CHECK_FALSE(has_word("fc1", "c"));
  CHECK_FALSE(has_word("4head", "head"));
  CHECK_FALSE(has_word("heads", "head"));
  CHECK_FALSE(has_word("", "head"));
}

TEST_CASE("depthwise and first convolutions go to AdamW") {
  CHECK(rule_of("dw.conv.weight", {64, 1, 3, 3}) == route_to::adamw);
  CHECK(rule_of("stem.conv.weight", {64, 3, 7, 7}) == route_to::adamw);
  CHECK(rule_of("stem.weight", {64, 4, 7, 7}) == route_to::adamw);
  CHECK(rule_of("stem.weight", {64, 5, 7, 7}) == route_to::matrix_rule);
  CHECK(rule_of("audio.conv1d", {64, 1, 9}) == route_to::adamw);
  CHECK(reason_of("audio.conv1.weight", {64, 1, 9}) == "a depthwise convolution");
  CHECK(reason_of("audio.conv1.weight", {64, 2, 9}) == "a first convolution, of few input channels");
}

TEST_CASE("a proposal keeps the order and names every parameter, and its table shows why") {
  const std::vector<named_shape> model = {{"wte", {63, 128}}, {"blocks.0.fc", {512, 128}}, {"bias", {512}}};
  const std::vector<route> routes = propose_routes(model);
  REQUIRE(routes.size() == 3);
  CHECK(routes[1].parameter.name == "blocks.0.fc");
  CHECK(to_table(routes) ==
        "parameter    shape      rule    because it is\n"
        "wte          63 x 128   adamw   an embedding, by its name\n"
        "blocks.0.fc  512 x 128  matrix  a matrix\n"
        "bias         512        adamw   a vector or scalar\n");
}

TEST_CASE("a proposal without a matrix is refused") {
  const std::vector<named_shape> model = {{"wte", {63, 128}}, {"bias", {512}}};
  CHECK_THROWS_WITH_AS(propose_routes(model), "expected at least one matrix among 2 parameters, got none", error);
  CHECK_THROWS_WITH_AS(propose_routes({}), "expected at least one matrix among 0 parameters, got none", error);
}
