// What runc needs to run an image's entry point: a bundle.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace pagein::cli {

struct ImageProcess {
  std::vector<std::string> entrypoint, cmd, env;
  std::string working_dir;
  std::string user;  // NAME|UID[:GROUP|GID]; empty: root
};

struct RunOptions {
  std::vector<std::string> command;  // instead of the image's arguments
  std::vector<std::string> env;      // NAME=value, over the image's
  std::vector<std::string> volumes;  // HOST:CONTAINER[:ro]
  enum class Net { host, none } net = Net::host;
  enum class Root { writable, read_only } root = Root::writable;
  std::string user;  // instead of the image's
};

// A temporary folder with the container's root file system mounted in it, and
// its configuration. Needs root. Confined to the thread that made it; takes all
// away at its end.
class RecordBundle {
 public:
  // `tree`: the image's files, read-only, over which the container writes into
  // the folder (or, where that cannot be, into memory).
  static Result<RecordBundle> make(const std::filesystem::path& tree, const ImageProcess& image,
                                   const RunOptions& options);
  ~RecordBundle();
  RecordBundle(RecordBundle&& other) noexcept;
  RecordBundle& operator=(RecordBundle&&) = delete;

  const std::filesystem::path& dir() const { return dir_; }
  std::string id() const { return dir_.filename(); }

 private:
  explicit RecordBundle(std::filesystem::path dir) : dir_(std::move(dir)) {}
  Status mount_root(const std::filesystem::path& tree);

  std::filesystem::path dir_;  // empty: moved away
};

}  // namespace pagein::cli
