// The hidden matrices of public models, from their published configurations, layer by layer as they are defined; of MoE
// layers every expert is a matrix. Names are as short as names can be that sort as long ones do.
#ifndef NORMUON_TESTS_SUPPORT_MODELS_HPP
#define NORMUON_TESTS_SUPPORT_MODELS_HPP

#include <string>
#include <string_view>
#include <vector>

#include "normuon/shards/plan/matrices.hpp"

namespace normuon::test {

// `count` matrices in each of the layers, rows x cols; of a batch each entry is a matrix.
struct alike_in_layers {
  std::string_view name;
  index_t layers, count, rows, cols, batch = 1;
};

struct public_model {
  std::string_view name;
  std::vector<alike_in_layers> parts;

  std::vector<sharded_matrix> matrices(const layout& where, element_type wire) const {
    std::vector<sharded_matrix> all;
    for (index_t layer = 0; layer < 128; ++layer)
      for (const alike_in_layers& p : parts)
        for (index_t k = 0; layer < p.layers && k < p.count; ++k)
          for (index_t entry = 0; entry < p.batch; ++entry)
            all.push_back({std::to_string(layer) + "." + std::string(p.name) + std::to_string(k), p.rows, p.cols, where,
                           wire, true, entry});
    return all;
  }
};

// openai/gpt-2, queries, keys and values as matrices of their own.
inline const public_model gpt2_small{"GPT-2 small",
                                     {{"attn", 12, 4, 768, 768}, {"up", 12, 1, 3072, 768}, {"down", 12, 1, 768, 3072}}};
// TinyLlama 1.1B: 22 layers of 2048, 32 heads, of keys and values 4, feed-forward 5632.
inline const public_model llama_1b{
    "1.1B GQA",
    {{"q_o", 22, 2, 2048, 2048}, {"k_v", 22, 2, 256, 2048}, {"up", 22, 2, 5632, 2048}, {"down", 22, 1, 2048, 5632}}};
// Llama 2 7B: 32 layers of 4096, feed-forward 11008.
inline const public_model llama_7b{
    "7B MHA", {{"attn", 32, 4, 4096, 4096}, {"up", 32, 2, 11008, 4096}, {"down", 32, 1, 4096, 11008}}};
// Llama 3 8B: 32 layers of 4096, keys and values of 1024, feed-forward 14336.
inline const public_model llama_8b{
    "8B GQA",
    {{"q_o", 32, 2, 4096, 4096}, {"k_v", 32, 2, 1024, 4096}, {"up", 32, 2, 14336, 4096}, {"down", 32, 1, 4096, 14336}}};
// Llama 3 70B: 80 layers of 8192, keys and values of 1024, feed-forward 28672.
inline const public_model llama_70b{
    "70B GQA",
    {{"q_o", 80, 2, 8192, 8192}, {"k_v", 80, 2, 1024, 8192}, {"up", 80, 2, 28672, 8192}, {"down", 80, 1, 8192, 28672}}};
// Mixtral 8x7B: as Llama 3 8B, with 8 experts.
inline const public_model mixtral{"Mixtral 8x7B",
                                  {{"q_o", 32, 2, 4096, 4096},
                                   {"k_v", 32, 2, 1024, 4096},
                                   {"up", 32, 2, 14336, 4096, 8},
                                   {"down", 32, 1, 4096, 14336, 8}}};
// Moonlight 16B-A3B (DeepSeek-V3's architecture): 27 layers of 2048, 16 heads of 128 + 64 in queries, 128 in values,
// latent 512 + 64; the first layer dense with 11264, the others 64 experts of 1408 and two shared as one of 2816.
inline const public_model moonlight{"Moonlight 16B MoE",
                                    {{"q", 27, 1, 3072, 2048},
                                     {"latent", 27, 1, 576, 2048},
                                     {"k_v", 27, 1, 4096, 512},
                                     {"o", 27, 1, 2048, 2048},
                                     {"dense_up", 1, 2, 11264, 2048},
                                     {"dense_down", 1, 1, 2048, 11264},
                                     {"expert_up", 26, 2, 1408, 2048, 64},
                                     {"expert_down", 26, 1, 2048, 1408, 64},
                                     {"shared_up", 26, 2, 2816, 2048},
                                     {"shared_down", 26, 1, 2048, 2816}}};
// A vision-language model: Qwen2 7B (28 layers of 3584, keys and values of 512, feed-forward 18944) behind CLIP's
// ViT-L/14 (24 layers of 1024, queries, keys and values as one matrix, feed-forward 4096) and a projection.
inline const public_model vlm_7b{"ViT + 7B VLM",
                                 {{"vit_qkv", 24, 1, 3072, 1024},
                                  {"vit_o", 24, 1, 1024, 1024},
                                  {"vit_up", 24, 1, 4096, 1024},
                                  {"vit_down", 24, 1, 1024, 4096},
                                  {"projection", 1, 1, 3584, 1024},
                                  {"q_o", 28, 2, 3584, 3584},
                                  {"k_v", 28, 2, 512, 3584},
                                  {"up", 28, 2, 18944, 3584},
                                  {"down", 28, 1, 3584, 18944}}};

}  // namespace normuon::test

#endif
