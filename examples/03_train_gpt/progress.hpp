// What a person sees while models train: one line that counts, or a plain line now and then where nobody watches.
#ifndef TRAIN_GPT_PROGRESS_HPP
#define TRAIN_GPT_PROGRESS_HPP

#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "train.hpp"

namespace gpt {

class progress {
 public:
  // total_steps: of all runs together.
  progress(int total_steps, std::size_t tokens_per_step) : total_steps_(total_steps), tokens_(tokens_per_step) {}

  // `now` is not step 0.
  void show(method m, std::uint64_t seed, int steps, const step_record& now) {
    ++done_;
    const bool terminal = isatty(STDOUT_FILENO) == 1, last = now.step == steps;
    if (!terminal && !last && now.step % std::max(1, steps / 10) != 0) return;
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start_;
    const auto left = static_cast<int>(passed.count() / done_ * (total_steps_ - done_));
    fmt::print("{}{:<7}  seed {}  step {:>4}/{}  loss {:.3f}  {:>6.0f} tokens/s  {:>2}:{:02} left in all{}",
               terminal ? "\r" : "", name_of(m), seed, now.step, steps, *now.training_loss,
               static_cast<double>(tokens_) * now.step / now.seconds, left / 60, left % 60,
               terminal && !last ? "" : "\n");
    std::fflush(stdout);
  }

 private:
  int total_steps_, done_ = 0;
  std::size_t tokens_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace gpt

#endif
