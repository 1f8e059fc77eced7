// The mount table (/proc/self/mountinfo) and unmounting.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pagein::mount {

// One line of mountinfo (proc(5)), octal escapes undone.
struct MountEntry {
  uint64_t id = 0;
  uint64_t parent = 0;
  uint32_t major = 0;
  uint32_t minor = 0;
  std::string root;     // of the mount within its file system
  std::string target;   // relative to the process's root
  std::string options;  // per mount
  std::string type;
  std::string source;
  std::string super_options;  // per file system
};

// corrupt_input on a line that is not mountinfo's; at most kMaxMounts lines.
Result<std::vector<MountEntry>> parse_mountinfo(std::string_view text);
inline constexpr size_t kMaxMounts = 100'000;

Result<std::vector<MountEntry>> load_mount_table();

// Whether a mount has its root at `path` (statx; asks no file server).
Result<bool> is_mount_point(const std::filesystem::path& path);

enum class UnmountMode {
  normal,  // failed_precondition (EBUSY) while it is used
  lazy,    // gone from the tree at once; ends with its last user
};

// The topmost mount at `path`. Success if nothing is mounted there, or if the
// path does not exist.
Status unmount(const std::filesystem::path& path, UnmountMode mode);

}  // namespace pagein::mount
