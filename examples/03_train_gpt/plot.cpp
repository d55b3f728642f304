#include <array>
#include <cstdlib>

#include "results.hpp"

namespace gpt {

namespace {

// Colours that those who don't tell red from green can tell apart (Okabe and Ito, jfly.uni-koeln.de/color).
constexpr std::array colours{"#0072B2", "#E69F00", "#009E73"};
constexpr std::array titles{"AdamW", "Muon", "NorMuon"};

// One word to a shell, whatever the text holds.
std::string quoted(const std::string& text) {
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? "'\\''" : std::string(1, c);
  return word + "'";
}

}  // namespace

void draw_losses(const runs& all, const std::filesystem::path& folder) {
  std::string data, adamw_end;
  std::vector<std::string> by_step, by_second;
  double highest = 0;
  for (const method m : methods_of(all)) {
    const summary s = summarize(all, m);
    const auto i = static_cast<std::size_t>(m);
    data += fmt::format("${} << end\n", name_of(m));
    for (const curve_point& p : s.validation) {
      data += fmt::format("{} {} {}\n", p.step, p.seconds, p.loss);
      // The picture leaves out the first steps, where all of them fall steeply.
      if (p.step >= s.validation.back().step / 20) highest = std::max(highest, p.loss);
    }
    data += "end\n";
    const auto line = [&](int column) {
      return fmt::format("${} using {}:3 with lines linewidth 2 linecolor '{}' title '{}'", name_of(m), column,
                         colours[i], titles[i]);
    };
    by_step.push_back(line(1)), by_second.push_back(line(2));
    if (m != method::adamw) continue;
    // An arrow, because gnuplot draws a line and its sample in the key as one path, which some viewers join.
    const double end = s.validation.back().loss;
    adamw_end = fmt::format(
        "set arrow from graph 0, first {0} to graph 1, first {0} nohead dashtype 2 linecolor '{1}'\n"
        "set label \"AdamW's end\" at graph 0.02, first {0} offset 0, -0.7 textcolor '{1}'\n",
        end, colours[i]);
  }

  const std::string script = fmt::format(
      "set terminal svg size 1000,420 font 'sans,14' background '#ffffff'\n"
      "set output 'loss.svg'\n{}"
      "set multiplot layout 1,2\n"
      "set grid\nset border 3\nset tics nomirror\n"
      "set yrange [:{}]\nset xrange [0:]\n{}"
      "set ylabel 'validation loss (nats per character)'\n"
      "set xlabel 'steps'\nplot {}\n"
      "set xlabel 'seconds of training'\nplot {}\n",
      data, highest, adamw_end, fmt::join(by_step, ", "), fmt::join(by_second, ", "));
  const std::filesystem::path picture = folder / "loss.svg";
  std::filesystem::remove(picture);
  // Through a file: a program that writes to a gnuplot that isn't there is ended by SIGPIPE.
  write_file(folder / "loss.gnuplot", script);
  const std::string there = quoted(std::filesystem::absolute(folder).string());
  if (std::system(fmt::format("cd {} && gnuplot loss.gnuplot", there).c_str()) != 0 ||
      !std::filesystem::exists(picture))
    throw std::runtime_error(
        fmt::format("can't draw {}: is gnuplot installed? loss.gnuplot beside it is what it draws", picture.string()));
}

}  // namespace gpt
