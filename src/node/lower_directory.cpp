#include "node/lower_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"

namespace pagein::node {
namespace {

constexpr size_t kMaxXattrBytes = 128 << 10;

// An O_PATH descriptor has no attributes calls of its own.
std::string path_of(const UniqueFd& fd) { return "/proc/self/fd/" + std::to_string(fd.get()); }

Result<std::vector<std::pair<std::string, std::string>>> read_xattrs(const UniqueFd& directory) {
  std::vector<std::pair<std::string, std::string>> xattrs;
  const std::string path = path_of(directory);
  std::string names(kMaxXattrBytes, '\0');
  const ssize_t length = ::listxattr(path.c_str(), names.data(), names.size());
  if (length < 0) {
    if (errno == ENOTSUP) return xattrs;
    return errno_error(errno, "list extended attributes of a lower directory");
  }
  names.resize(static_cast<size_t>(length));
  for (size_t at = 0; at < names.size();) {
    const std::string name = names.c_str() + at;
    at += name.size() + 1;
    std::string value(kMaxXattrBytes, '\0');
    const ssize_t size = ::getxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (size < 0) return errno_error(errno, "read extended attribute " + name);
    value.resize(static_cast<size_t>(size));
    xattrs.emplace_back(name, std::move(value));
  }
  return xattrs;
}

// Whether nothing of lower layers shows inside (overlayfs.rst, "whiteouts and
// opaque directories").
bool is_opaque(const UniqueFd& directory) {
  char value[2];
  return ::getxattr(path_of(directory).c_str(), "trusted.overlay.opaque", value, sizeof value) ==
             1 &&
         value[0] == 'y';
}

struct Found {
  enum class What { directory, absent, hidden } what = What::absent;
  UniqueFd fd;  // of the directory
  struct stat st = {};
};

// One layer's folder. Goes down name by name and follows no symlink: one that
// an image brings must not lead out of the folder.
Result<Found> look_in(const std::string& root, std::string_view path) {
  Found found;
  bool opaque = false;
  ASSIGN_OR_RETURN(found.fd, open_file(root, O_PATH | O_DIRECTORY));
  if (::fstat(found.fd.get(), &found.st) != 0) return errno_error(errno, "stat " + root);
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    const std::string name(path.substr(0, slash));
    path.remove_prefix(std::min(slash + 1, path.size()));
    opaque = opaque || is_opaque(found.fd);
    UniqueFd next(::openat(found.fd.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!next && errno == ENOENT) {
      found.what = opaque ? Found::What::hidden : Found::What::absent;
      return found;
    }
    if (!next || ::fstat(next.get(), &found.st) != 0) {
      return errno_error(errno, "look up " + name + " below " + root);
    }
    found.fd = std::move(next);
    if (!S_ISDIR(found.st.st_mode)) {
      found.what = Found::What::hidden;
      return found;
    }
  }
  found.what = Found::What::directory;
  return found;
}

}  // namespace

decltype(tree::MergeOptions::lower_directory) lower_directory_lookup(
    std::vector<std::string> directories) {
  return [directories = std::move(directories)](
             std::string_view path) -> Result<std::optional<tree::LowerDirectory>> {
    for (const std::string& root : directories) {
      ASSIGN_OR_RETURN(const Found found, look_in(root, path));
      if (found.what == Found::What::absent) continue;
      if (found.what == Found::What::hidden) return std::nullopt;
      const struct stat& st = found.st;
      tree::LowerDirectory directory;
      directory.attributes.mode = static_cast<uint16_t>(st.st_mode & 07777);
      directory.attributes.uid = st.st_uid;
      directory.attributes.gid = st.st_gid;
      directory.attributes.mtime_sec = st.st_mtim.tv_sec;
      directory.attributes.mtime_nsec = static_cast<uint32_t>(st.st_mtim.tv_nsec);
      ASSIGN_OR_RETURN(directory.xattrs, read_xattrs(found.fd));
      return directory;
    }
    return std::nullopt;
  };
}

}  // namespace pagein::node
