// A command and files of any content, in a fixed tree.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>

#include "startup/entry_point.h"
#include "startup/shell_words.h"
#include "tree/layer_maker.h"
#include "tree/merge.h"

namespace {

using namespace pagein;

constexpr const char* kFiles[] = {
    "bin/sh",         "bin/node",         "bin/env",     "bin/python3",
    "etc/ld.so.conf", "app/package.json", "lib/libx.so", "a"};

// Up to a byte 0xff, or all of it.
std::string take(std::string_view* data) {
  const size_t end = std::min(data->find('\xff'), data->size());
  std::string part(data->substr(0, end));
  data->remove_prefix(std::min(end + 1, data->size()));
  return part;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  oci::ImageConfig config;
  for (const auto& command : startup::shell_commands(take(&text))) {
    config.cmd.insert(config.cmd.end(), command.begin(), command.end());
  }
  config.env = {"PATH=/bin:/app:.", "LD_LIBRARY_PATH=/lib"};
  config.working_dir = "/app";
  tree::LayerMaker maker;
  std::map<std::string, std::string> contents;
  for (const char* name : kFiles) {
    contents[name] = take(&text);
    tar::Entry entry;
    entry.mode = 0755;
    maker.with(entry).file(name, contents[name].size());
  }
  const auto tree = tree::merge({maker.finish()});
  if (!tree.ok()) __builtin_trap();
  const startup::ImageFiles files(*tree);
  const startup::OpenFile open =
      [&](tree::NodeId node) -> Result<std::unique_ptr<startup::FileBytes>> {
    return std::make_unique<startup::FileBytesView>(as_bytes(contents.at(tree->path(node))));
  };
  const auto found = startup::entry_point_files(files, config, open);
  if (!found.ok() || found->size() > startup::kMaxStartupFiles) __builtin_trap();
  return 0;
}
