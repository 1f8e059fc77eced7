// A file as a read-only block device. Internal to mount.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace pagein::mount {

// Whether the file's own page cache may be used. Over a FUSE file it may not: one
// read that hangs there would hold up all others of the device.
enum class LoopCaching { never, where_needed };

// Movable. The device lives as long as anybody has it open, this object or a
// mounted file system, and then frees itself (LO_FLAGS_AUTOCLEAR): a daemon that
// dies in between leaves none behind.
class LoopDevice {
 public:
  // `file` is a descriptor that the device gets its own reference of. `name` is
  // shown by losetup(8). Blocks. unsupported: no loop devices here, or no direct
  // I/O on this file where it is needed.
  static Result<LoopDevice> attach(int file, const std::string& name, LoopCaching caching);

  const std::string& path() const { return path_; }

 private:
  LoopDevice(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  UniqueFd fd_;
};

}  // namespace pagein::mount
