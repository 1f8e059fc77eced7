#include "mount/mount_table.h"

#include <fcntl.h>
#include <linux/stat.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <charconv>

#include "base/file.h"

namespace pagein::mount {
namespace {

constexpr uint64_t kMaxTableBytes = 64ULL << 20;

// Splits at single spaces.
std::string_view next_field(std::string_view& line) {
  const size_t end = line.find(' ');
  const std::string_view field = line.substr(0, end);
  line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
  return field;
}

template <typename T>
bool parse_number(std::string_view text, T& out) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, out);
  return error == std::errc() && stop == end && !text.empty();
}

// The kernel writes space, tab, newline, backslash and '#' as \ooo.
std::string unescape_octal(std::string_view text) {
  const auto digit = [&](size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '7'; };
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && digit(i + 1) && text[i + 1] <= '3' && digit(i + 2) && digit(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 |
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

bool parse_line(std::string_view line, MountEntry& out) {
  const std::string_view id = next_field(line);
  const std::string_view parent = next_field(line);
  std::string_view device = next_field(line);
  const size_t colon = device.find(':');
  if (colon == std::string_view::npos || !parse_number(id, out.id) ||
      !parse_number(parent, out.parent) || !parse_number(device.substr(0, colon), out.major) ||
      !parse_number(device.substr(colon + 1), out.minor)) {
    return false;
  }
  out.root = unescape_octal(next_field(line));
  out.target = unescape_octal(next_field(line));
  out.options = unescape_octal(next_field(line));
  // Optional fields ("shared:12"), then "-".
  for (;;) {
    if (line.empty()) return false;
    if (next_field(line) == "-") break;
  }
  out.type = unescape_octal(next_field(line));
  out.source = unescape_octal(next_field(line));
  out.super_options = unescape_octal(next_field(line));
  return !out.target.empty() && !out.type.empty();
}

}  // namespace

Result<std::vector<MountEntry>> parse_mountinfo(std::string_view text) {
  std::vector<MountEntry> entries;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty()) continue;
    if (entries.size() == kMaxMounts) {
      return Error(Code::exhausted,
                   "the mount table has more than " + std::to_string(kMaxMounts) + " lines");
    }
    if (!parse_line(line, entries.emplace_back())) {
      return Error(Code::corrupt_input,
                   "not a line of a mount table: '" + std::string(line.substr(0, 200)) + "'");
    }
  }
  return entries;
}

Result<std::vector<MountEntry>> load_mount_table() {
  ASSIGN_OR_RETURN(const std::string text, read_file("/proc/self/mountinfo", kMaxTableBytes));
  return parse_mountinfo(text);
}

Result<bool> is_mount_point(const std::filesystem::path& path) {
  struct statx st;
  if (::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, 0,
              &st) != 0) {
    return errno_error(errno, "look for a mount at " + path.string());
  }
  return (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

Status unmount(const std::filesystem::path& path, UnmountMode mode) {
  const int flags = UMOUNT_NOFOLLOW | (mode == UnmountMode::lazy ? MNT_DETACH : 0);
  if (::umount2(path.c_str(), flags) == 0) return {};
  const int error = errno;
  if (error == ENOENT) return {};
  if (error == EINVAL) {
    Result<bool> mounted = is_mount_point(path);
    if (mounted.ok() && !*mounted) return {};
  }
  return errno_error(error, "unmount " + path.string());
}

}  // namespace pagein::mount
