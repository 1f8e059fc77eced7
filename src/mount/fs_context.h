// Mounting by fsopen(2), fsconfig(2), fsmount(2), move_mount(2): any number of
// options, and the kernel's own words when it refuses.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace pagein::mount {

// A file system being configured. Thread-compatible. Errors carry what the
// kernel wrote to the context's log.
class FsContext {
 public:
  static Result<FsContext> open(const std::string& type);

  Status set_string(const std::string& key, const std::string& value);
  // A path of any length: one that does not fit an option (255 bytes) is given
  // as /proc/self/fd/N, held open until the context is destroyed.
  Status set_path(const std::string& key, const std::filesystem::path& path);
  Status set_flag(const std::string& key);

  // Creates the file system and a mount of it that is in no tree.
  // `attributes`: MOUNT_ATTR_*.
  Result<UniqueFd> create(unsigned attributes);

 private:
  FsContext(std::string type, UniqueFd fd) : type_(std::move(type)), fd_(std::move(fd)) {}
  Error failure(int error, const std::string& doing) const;

  std::string type_;
  UniqueFd fd_;
  std::vector<UniqueFd> held_;
};

// Puts a mount from FsContext::create at `target`, an existing directory.
Status attach_mount(int mount_fd, const std::filesystem::path& target);

}  // namespace pagein::mount
