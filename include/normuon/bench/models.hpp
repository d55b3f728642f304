// The hidden matrices of models that people know: what the `step` benchmarks move. Embeddings, heads and vectors are
// left out: matrix rules don't move them, and peers that are compared refuse them.
#ifndef NORMUON_BENCH_MODELS_HPP
#define NORMUON_BENCH_MODELS_HPP

#include <array>
#include <span>
#include <string_view>

#include "normuon/matrix_ref.hpp"

namespace normuon::bench {

// `count` tensors alike, each of them `batch` matrices of rows x cols: experts lie in one tensor.
struct alike {
  index_t count, rows, cols, batch = 1;
  constexpr index_t elements() const { return count * batch * rows * cols; }
};

struct model {
  std::string_view name;
  std::span<const alike> tensors;

  constexpr index_t elements() const {
    index_t sum = 0;
    for (const alike& t : tensors) sum += t.elements();
    return sum;
  }
};

// examples/03_train_gpt: four layers of width 128. Queries, keys, values and output; up; down.
inline constexpr std::array char_gpt{alike{16, 128, 128}, alike{4, 512, 128}, alike{4, 128, 512}};

// GPT-2 small (openai/gpt-2, 124 M): twelve layers of width 768, queries, keys and values as matrices of their own.
inline constexpr std::array gpt2_small{alike{48, 768, 768}, alike{12, 3072, 768}, alike{12, 768, 3072}};

// TinyLlama 1.1 B (jzhang38/TinyLlama), two whole layers of its 22: queries and output; keys and values of 4 heads in
// place of 32; gate and up; down.
inline constexpr std::array llama_1b{alike{4, 2048, 2048}, alike{4, 256, 2048}, alike{4, 5632, 2048},
                                     alike{2, 2048, 5632}};

// Granite 3.0 1B-A400M (ibm-granite), one layer of its 24: attention, then 32 experts: gate and up; down.
inline constexpr std::array moe{alike{2, 1024, 1024}, alike{2, 512, 1024}, alike{2, 512, 1024, 32},
                                alike{1, 1024, 512, 32}};

// ResNet-18 (arXiv 1512.03385), its kernels as one row per output channel, (in channels, 3, 3) flattened; the first
// is 7 x 7, those of shortcuts are 1 x 1.
inline constexpr std::array resnet18{alike{1, 64, 147},   alike{4, 64, 576},   alike{1, 128, 576},  alike{3, 128, 1152},
                                     alike{1, 128, 64},   alike{1, 256, 1152}, alike{3, 256, 2304}, alike{1, 256, 128},
                                     alike{1, 512, 2304}, alike{3, 512, 4608}, alike{1, 512, 256}};

inline constexpr std::array models{model{"char_gpt", char_gpt}, model{"gpt2_small", gpt2_small},
                                   model{"llama_1b", llama_1b}, model{"moe", moe}, model{"resnet18", resnet18}};

}  // namespace normuon::bench

#endif
