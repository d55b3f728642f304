// Saves a whole training run in one file and goes on from it, bit for bit. The file is a safetensors file, whose bytes
// depend on the run alone: not on threads, memory layout or how many ranks have written it. Needs nlohmann-json and
// libxxhash. docs/checkpoints.md has the format; io/checkpoint/{writer,reader}.hpp write and read it in parts.
#ifndef NORMUON_IO_CHECKPOINT_HPP
#define NORMUON_IO_CHECKPOINT_HPP

#include "normuon/io/checkpoint/comparison.hpp"
#include "normuon/io/checkpoint/matrices.hpp"
#include "normuon/io/checkpoint/reader.hpp"

namespace normuon {

struct save_options {
  bool weights = true;        // saves the bound weights as well
  bool keep_previous = true;  // keeps what stood at the path, as previous_generation(path)
};

// What a trainer saves beside the optimizer: the state of a random generator, its place in the data, loss scales.
struct checkpoint_extras {
  std::map<std::string, safetensors::tensor> tensors = {};  // saved as "extra.<name>"
  std::map<std::string, std::string> text = {};             // saved as "text.<name>" in the metadata
};

struct loaded_checkpoint {
  index_t step = 0;  // the largest of the parameters' counters
  checkpoint_extras extras;
};

// The plan of a file with this optimizer and these extras. Throws error_code::file as checkpoint_plan does.
template <tensor_backend B>
checkpoint_plan plan_checkpoint(registry<B>& opt, index_t step, const checkpoint_extras& extras, bool weights,
                                std::string_view where) {
  std::vector<logical_tensor> tensors = logical_tensors(opt, weights);
  for (const auto& [name, t] : extras.tensors) tensors.push_back({extra_tensor(name), t.type, t.shape});
  metadata_map metadata;
  for (const described_fields& fields : {describe(opt), describe_progress(opt, step)})
    for (const auto& [key, text] : fields) metadata.emplace(key, text);
  for (const auto& [key, text] : extras.text) metadata.emplace(std::string(extra_text_prefix) + key, text);
  return checkpoint_plan(tensors, std::move(metadata), where);
}

// Saves state, options and, unless told otherwise, weights, at the path: whole, or what stood there stays. When it
// returns, the file outlives a loss of power. Throws error_code::file where the file can't be written or names don't
// fit it (UTF-8, at most some 490 bytes), `poisoned`, or as the backend does; nothing has changed then.
template <tensor_backend B, file_system System = posix_file_system>
void save_checkpoint(const file_path& path, registry<B>& opt, const checkpoint_extras& extras = {},
                     save_options options = {}, System system = {}) {
  const std::string where = printable_path(path);
  checkpoint_writer<System> writer(path, plan_checkpoint(opt, opt.steps_made(), extras, options.weights, where),
                                   system);
  const std::vector<placed_tensor>& tensors = writer.plan().tensors();
  for (const auto& [name, t] : extras.tensors) {
    const placed_tensor& place = tensors[writer.plan().find(extra_tensor(name))];
    if (t.bytes.size() != place.end - place.begin)
      safetensors::refuse_tensor(where, place.name, "expected ", place.end - place.begin, " bytes for its shape, got ",
                                 t.bytes.size());
  }
  writer.create();
  for (const auto& [name, t] : extras.tensors) writer.write(writer.plan().find(extra_tensor(name)), t.bytes.data());
  for (const parameter<B>& p : opt.parameters()) {
    for (const named_tensor& t : opt.export_state(p.name)) {
      const std::size_t i = writer.plan().find(t.name);
      const std::vector<float> narrow(t.values.begin(),
                                      tensors[i].type == safetensors::dtype::f32 ? t.values.end() : t.values.begin());
      writer.write(i, narrow.empty() ? static_cast<const void*>(t.values.data()) : narrow.data());
    }
    if (options.weights) {
      const std::vector<std::byte> bytes = read_weight(opt.backend(), p.weight);
      writer.write(writer.plan().find(p.name + weight_suffix), bytes.data());
    }
  }
  writer.flush();
  std::vector<std::uint64_t> digests;
  for (std::size_t i = 0; i < tensors.size(); ++i) digests.push_back(writer.digest(i));
  writer.commit(digests, options.keep_previous);
}

// Brings back what save_checkpoint has saved of an optimizer with the same groups and parameters, added in the same
// order with the same options: state, the numbers that steps may change, which parameters are frozen, and the bound
// weights. Returns the rest. The next steps have the bits of a run that was never cut. Everything is read and checked
// first: where the load is refused, nothing has changed. A poisoned optimizer is ready again. Throws error_code::file
// where the file is damaged or no checkpoint, error_code::state with the first field in which file and optimizer differ,
// or as the backend does, whose failure in the middle poisons.
template <tensor_backend B, file_system System = posix_file_system>
loaded_checkpoint load_checkpoint(const file_path& path, registry<B>& opt, load_options options = {},
                                  System system = {}) {
  checkpoint_reader<System> reader(path, system);
  const std::string where = reader.printed_path();
  saved_progress progress = require_same(opt, reader.plan().metadata(), options, where);
  loaded_checkpoint out{progress.step, {{}, std::move(progress.text)}};
  for (const std::size_t i : require_tensors(opt, reader.plan(), options, where)) {
    const placed_tensor& t = reader.plan().tensors()[i];
    out.extras.tensors[t.name.substr(extra_tensor("").size())] = {t.type, t.shape, reader.read(i)};
  }
  std::vector<named_tensor> state;
  for (listed_tensor& t : opt.list_state()) {
    const std::size_t i = reader.index_of(t.name);
    std::vector<double> values =
        safetensors::values<double>({reader.plan().tensors()[i].type, t.shape, reader.read(i)});
    state.push_back({std::move(t.name), std::move(t.shape), std::move(values)});
  }
  std::vector<std::vector<std::byte>> weights;
  for (const parameter<B>& p : opt.parameters())
    if (options.weights) weights.push_back(reader.read(reader.index_of(p.name + weight_suffix)));

  std::vector<group_numbers> numbers;
  for (const group& g : opt.groups()) numbers.push_back(g.numbers());
  const double scale = opt.gradient_scale();
  if (!options.other_numbers) opt.set_numbers(progress.numbers, progress.gradient_scale);
  try {
    opt.import_state(state, [&] {
      for (std::size_t i = 0; i < weights.size(); ++i)
        write_weight(opt.backend(), opt.parameters()[i].weight, weights[i]);
    });
  } catch (...) {
    opt.set_numbers(numbers, scale);
    throw;
  }
  for (const parameter<B>& p : opt.parameters())
    progress.frozen.contains(p.name) ? opt.freeze(p.name) : opt.unfreeze(p.name);
  return out;
}

}  // namespace normuon

#endif
