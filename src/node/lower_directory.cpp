#include "node/lower_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"

namespace pagein::node {
namespace {

constexpr size_t kMaxXattrBytes = 128 << 10;

Result<std::vector<std::pair<std::string, std::string>>> read_xattrs(const std::string& path) {
  std::vector<std::pair<std::string, std::string>> xattrs;
  std::string names(kMaxXattrBytes, '\0');
  const ssize_t length = ::llistxattr(path.c_str(), names.data(), names.size());
  if (length < 0) {
    if (errno == ENOTSUP) return xattrs;
    return errno_error(errno, "list extended attributes of " + path);
  }
  names.resize(static_cast<size_t>(length));
  for (size_t at = 0; at < names.size();) {
    const std::string name = names.c_str() + at;
    at += name.size() + 1;
    std::string value(kMaxXattrBytes, '\0');
    const ssize_t size = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (size < 0) return errno_error(errno, "read extended attribute " + name + " of " + path);
    value.resize(static_cast<size_t>(size));
    xattrs.emplace_back(name, std::move(value));
  }
  return xattrs;
}

// Whether a component of `path` below `root` is something else than a
// directory: then lower layers do not show through.
bool hides(const std::string& root, std::string_view path) {
  for (size_t end = path.find('/'); end != std::string_view::npos; end = path.find('/', end + 1)) {
    struct stat st;
    const std::string parent = root + "/" + std::string(path.substr(0, end));
    if (::lstat(parent.c_str(), &st) != 0) return false;
    if (!S_ISDIR(st.st_mode)) return true;
  }
  return false;
}

}  // namespace

decltype(tree::MergeOptions::lower_directory) lower_directory_lookup(
    std::vector<std::string> directories) {
  return [directories = std::move(directories)](
             std::string_view path) -> Result<std::optional<tree::LowerDirectory>> {
    for (const std::string& root : directories) {
      const std::string full = root + "/" + std::string(path);
      struct stat st;
      if (::lstat(full.c_str(), &st) != 0) {
        if (errno != ENOENT && errno != ENOTDIR) return errno_error(errno, "lstat " + full);
        if (hides(root, path)) return std::nullopt;
        continue;
      }
      if (!S_ISDIR(st.st_mode)) return std::nullopt;
      tree::LowerDirectory found;
      found.attributes.mode = static_cast<uint16_t>(st.st_mode & 07777);
      found.attributes.uid = st.st_uid;
      found.attributes.gid = st.st_gid;
      found.attributes.mtime_sec = st.st_mtim.tv_sec;
      found.attributes.mtime_nsec = static_cast<uint32_t>(st.st_mtim.tv_nsec);
      ASSIGN_OR_RETURN(found.xattrs, read_xattrs(full));
      return found;
    }
    return std::nullopt;
  };
}

}  // namespace pagein::node
