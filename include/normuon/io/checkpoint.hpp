// Saves a whole training run in one file and goes on from it, bit for bit. The file is a safetensors file, whose bytes
// depend on the run alone: not on threads, memory layout or how many ranks have written it. Needs nlohmann-json and
// libxxhash. docs/checkpoints.md has the format; io/checkpoint/{writer,reader}.hpp write and read it in parts.
#ifndef NORMUON_IO_CHECKPOINT_HPP
#define NORMUON_IO_CHECKPOINT_HPP

#include <optional>

#include "normuon/io/checkpoint/comparison.hpp"
#include "normuon/io/checkpoint/parts.hpp"
#include "normuon/io/checkpoint/ranks.hpp"

namespace normuon {

struct save_options {
  bool weights = true;                           // saves the bound weights as well
  bool keep_previous = true;                     // keeps what stood at the path, as previous_generation(path)
  std::optional<file_deadlines> deadlines = {};  // for ranks that wait long for one another
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
template <tensor_backend B, shard_engine Engine>
checkpoint_plan plan_checkpoint(optimizer<B, Engine>& opt, index_t step, const checkpoint_extras& extras, bool weights,
                                std::string_view where) {
  std::vector<logical_tensor> tensors = logical_tensors(opt, weights);
  for (const auto& [name, t] : extras.tensors) tensors.push_back({extra_tensor(name), t.type, t.shape});
  metadata_map metadata;
  for (const described_fields& fields : {describe_run(opt, opt.options()), describe_progress(opt, step)})
    for (const auto& [key, text] : fields) metadata.emplace(key, text);
  for (const auto& [key, text] : extras.text) metadata.emplace(std::string(extra_text_prefix) + key, text);
  return checkpoint_plan(tensors, std::move(metadata), where);
}

// Throws error_code::option on every rank, with the first piece of metadata or tensor that differs, where ranks have
// planned different files.
template <tensor_backend B, shard_engine Engine>
void require_same_plan(B& b, Engine& engine, const checkpoint_plan& plan) {
  if (engine.size() == 1) return;
  const auto shown = [](const std::string& text) { return printable(text, text.size()); };
  std::vector<plan_field> fields;
  for (const auto& [key, text] : plan.metadata()) fields.push_back({shown(key), shown(text)});
  for (const placed_tensor& t : plan.tensors()) fields.push_back({"tensor '" + shown(t.name) + "'", text_of(t)});
  require_same_on_ranks(b, engine, fields, "plan");
}

// Saves state, options and, unless told otherwise, weights, at the path, whole or not at all. When it returns, the file
// outlives a loss of power. Ranks call it together, on a file system that they share; the file's bytes are those that
// one process would write. Text and names, types and shapes of tensors among the extras are the same on all; of the
// tensors' bytes rank 0's are saved. Throws error_code::file where the file can't be written or names don't fit it
// (UTF-8, at most some 490 bytes), `option` where ranks would write different files, `poisoned`, or as the backend or
// the engine does, on every rank; what stood at the path stays then, but for what the message of a replacement_file's
// commit says otherwise, or where an engine fails after rank 0 has put the file there.
template <tensor_backend B, shard_engine Engine, file_system System = posix_file_system>
void save_checkpoint(const file_path& path, optimizer<B, Engine>& opt, const checkpoint_extras& extras = {},
                     save_options options = {}, System system = {}) {
  const std::string where = printable_path(path);
  B& b = opt.backend();
  Engine& engine = opt.engine();
  const deadline_for_files deadline(engine, options.deadlines);
  wait_for_peers(engine);  // no longer than that; what follows waits for the backend alone
  std::optional<checkpoint_writer<System>> writer;
  std::uint64_t created = 0;
  act_together(b, engine, [&] {
    writer.emplace(path, plan_checkpoint(opt, opt.steps_made(), extras, options.weights, where), system);
    for (const auto& [name, t] : extras.tensors) {
      const placed_tensor& place = writer->plan().tensors()[writer->plan().find(extra_tensor(name))];
      if (t.bytes.size() != place.end - place.begin)
        safetensors::refuse_tensor(where, place.name, "expected ", place.end - place.begin,
                                   " bytes for its shape, got ", t.bytes.size());
    }
  });
  require_same_plan(b, engine, writer->plan());
  act_together(b, engine, [&] {
    if (engine.rank() == 0) created = writer->create();
  });
  created = gathered(b, engine, created).front();
  act_together(b, engine, [&] {
    if (engine.rank() != 0) writer->join(created);
    else
      for (const auto& [name, t] : extras.tensors)
        writer->write(writer->plan().find(extra_tensor(name)), t.bytes.data());
    for (const parameter<B>& p : opt.parameters()) {
      write_state_parts(*writer, opt, p);
      if (options.weights) write_weight_parts(*writer, b, p, engine.rank());
    }
    writer->flush();
  });
  const std::vector<int> shares = digest_shares(writer->plan().tensors(), engine.size());
  std::vector<std::uint64_t> digests(shares.size());
  act_together(b, engine, [&] {
    for (std::size_t i = 0; i < shares.size(); ++i)
      if (shares[i] == engine.rank()) digests[i] = writer->digest(i);
  });
  digests = gathered_digests(b, engine, shares, std::move(digests));
  act_together(b, engine, [&] {
    if (engine.rank() == 0) writer->commit(digests, options.keep_previous);
  });
}

// Brings back what save_checkpoint has saved of an optimizer with the same groups and parameters, added in the same
// order with the same options, on any number of ranks and in any layout: state, the numbers that steps may change,
// which parameters are frozen, and the bound weights. Returns the rest. The next steps have the bits of a run that was
// never cut. Ranks call it together. Everything is read and checked first, on all ranks: where the load is refused,
// nothing has changed on any. In one process a poisoned optimizer is ready again. Throws error_code::file where the
// file is damaged, no checkpoint, or not the same on all ranks, error_code::state with the first field in which file
// and optimizer differ, or as the backend or the engine does; a backend's failure in the middle poisons. Of each tensor
// one rank checks the digest: a copy of the file that one rank alone sees is not checked whole.
template <tensor_backend B, shard_engine Engine, file_system System = posix_file_system>
loaded_checkpoint load_checkpoint(const file_path& path, optimizer<B, Engine>& opt, load_options options = {},
                                  System system = {}) {
  const std::string where = printable_path(path);
  B& b = opt.backend();
  Engine& engine = opt.engine();
  const deadline_for_files deadline(engine, options.deadlines);
  wait_for_peers(engine);  // no longer than that; what follows waits for the backend alone
  std::optional<checkpoint_reader<System>> reader;
  std::uint64_t header_digest = 0;
  saved_progress progress;
  loaded_checkpoint out;
  std::vector<std::size_t> extras;
  act_together(b, engine, [&] {
    reader.emplace(path, system);
    header_digest = reader->header_digest();
  });
  require_same_file(b, engine, header_digest, where);
  act_together(b, engine, [&] {
    progress = require_same(opt, reader->plan().metadata(), options, where);
    extras = require_tensors(opt, reader->plan(), options, where);
    const std::vector<int> shares = digest_shares(reader->plan().tensors(), engine.size());
    for (std::size_t i = 0; i < shares.size(); ++i)
      if (shares[i] == engine.rank()) reader->verify(i);
  });
  out.step = progress.step;
  out.extras.text = std::move(progress.text);

  std::vector<group_numbers> numbers;
  for (const group& g : opt.groups()) numbers.push_back(g.numbers());
  const double scale = opt.gradient_scale();
  std::vector<named_tensor> state;
  std::vector<std::vector<std::byte>> weights;
  bool settled = false;  // whether this rank has said that it could read and check everything
  try {
    for (std::size_t i = 0; i < reader->plan().tensors().size(); ++i) reader->trust(i);
    for (const std::size_t i : extras) {
      const placed_tensor& t = reader->plan().tensors()[i];
      out.extras.tensors[t.name.substr(extra_tensor("").size())] = {t.type, t.shape, reader->read(i)};
    }
    for (listed_tensor& t : opt.list_state()) state.push_back(read_state_part(*reader, std::move(t)));
    for (const parameter<B>& p : opt.parameters())
      if (options.weights) weights.push_back(read_weight_parts(*reader, p));
    if (!options.other_numbers) opt.set_numbers(progress.numbers, progress.gradient_scale);
    opt.import_state(
        state,
        [&] {
          settled = true;
          settle_together(b, engine, nullptr);
        },
        [&] {
          for (std::size_t i = 0; i < weights.size(); ++i) write_into_weight(b, opt.parameters()[i], weights[i]);
        });
  } catch (...) {
    opt.set_numbers(numbers, scale);
    if (!settled) settle_together(b, engine, std::current_exception());
    throw;
  }
  for (const parameter<B>& p : opt.parameters())
    progress.frozen.contains(p.name) ? opt.freeze(p.name) : opt.unfreeze(p.name);
  return out;
}

}  // namespace normuon

#endif
