#include "mount/fs_context.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"

namespace pagein::mount {
namespace {

// The kernel copies an option's value with this limit, its end included.
constexpr size_t kMaxOptionBytes = 256;

// The context's log: lines "e erofs: text", one a read, until ENODATA.
std::string kernel_log(int fd) {
  constexpr int kMaxLines = 16;
  std::string log;
  for (int i = 0; i < kMaxLines; ++i) {
    char line[1024];
    const ssize_t n = ::read(fd, line, sizeof line);
    if (n <= 0) break;
    std::string_view text(line, static_cast<size_t>(n));
    while (text.ends_with('\n')) text.remove_suffix(1);
    if (text.size() > 2 && text[1] == ' ') text.remove_prefix(2);  // severity
    if (!log.empty()) log += "; ";
    log += text;
  }
  return log;
}

}  // namespace

Result<FsContext> FsContext::open(const std::string& type) {
  UniqueFd fd(::fsopen(type.c_str(), FSOPEN_CLOEXEC));
  if (!fd) {
    if (errno == ENODEV) {
      return Error(Code::unsupported,
                   "this kernel has no file system '" + type + "' (or its module is not loaded)",
                   ENODEV);
    }
    return errno_error(errno, "open a mount context for " + type);
  }
  return FsContext(type, std::move(fd));
}

Error FsContext::failure(int error, const std::string& doing) const {
  Error result = errno_error(error, doing);
  const std::string log = kernel_log(fd_.get());
  if (!log.empty()) result.message += " (kernel: " + log + ")";
  return result;
}

Status FsContext::set_string(const std::string& key, const std::string& value) {
  if (::fsconfig(fd_.get(), FSCONFIG_SET_STRING, key.c_str(), value.c_str(), 0) != 0) {
    return failure(errno, type_ + ": set " + key + "=" + value);
  }
  return {};
}

Status FsContext::set_path(const std::string& key, const std::filesystem::path& path) {
  if (path.native().size() < kMaxOptionBytes) return set_string(key, path.native());
  ASSIGN_OR_RETURN(UniqueFd fd, open_file(path, O_PATH));
  held_.push_back(std::move(fd));
  return set_string(key, "/proc/self/fd/" + std::to_string(held_.back().get()));
}

Status FsContext::set_flag(const std::string& key) {
  if (::fsconfig(fd_.get(), FSCONFIG_SET_FLAG, key.c_str(), nullptr, 0) != 0) {
    return failure(errno, type_ + ": set " + key);
  }
  return {};
}

Result<UniqueFd> FsContext::create(unsigned attributes) {
  if (::fsconfig(fd_.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return failure(errno, "create " + type_ + " file system");
  }
  UniqueFd mount(::fsmount(fd_.get(), FSMOUNT_CLOEXEC, attributes));
  if (!mount) return failure(errno, "mount " + type_);
  return mount;
}

Status attach_mount(int mount_fd, const std::filesystem::path& target) {
  if (::move_mount(mount_fd, "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return errno_error(errno, "attach the mount at " + target.string());
  }
  return {};
}

}  // namespace pagein::mount
