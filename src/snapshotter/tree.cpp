#include "snapshotter/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/file.h"

namespace pagein::snapshotter {

namespace {

constexpr uint64_t kBlockBytes = 512;  // of st_blocks, stat(2)

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};
using Dir = std::unique_ptr<DIR, CloseDir>;

UniqueFd open_folder(int at, const char* name) {
  return UniqueFd(::openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

// Names in the folder, "." and ".." left out; its descriptor stays open.
Result<std::vector<std::string>> names_in(int fd) {
  UniqueFd own(::openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!own) return errno_error(errno, "open folder");
  Dir dir(::fdopendir(own.get()));
  if (!dir) return errno_error(errno, "open folder");
  own.release();
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(dir.get());
    if (entry == nullptr) {
      if (errno != 0) return errno_error(errno, "read folder");
      return names;
    }
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
}

// Empties one folder after the other: a subfolder that is not empty is first
// moved up to the top, so nothing is ever deeper than one step.
class Remover {
 public:
  explicit Remover(UniqueFd top) : top_(std::move(top)) {}

  std::optional<Error> run() {
    empty(top_.get());
    for (; done_ < moved_; ++done_) {
      const std::string name = name_of(done_);
      if (const UniqueFd fd = open_folder(top_.get(), name.c_str())) {
        empty(fd.get());
      } else {
        note(errno, "open " + name);
      }
      if (::unlinkat(top_.get(), name.c_str(), AT_REMOVEDIR) != 0) note(errno, "remove " + name);
    }
    return std::move(first_);
  }

 private:
  static std::string name_of(uint64_t number) { return ".removing-" + std::to_string(number); }

  void note(int err, const std::string& doing) {
    if (!first_) first_ = errno_error(err, doing);
  }

  void empty(int fd) {
    auto names = names_in(fd);
    if (!names.ok()) {
      if (!first_) first_ = names.error();
      return;
    }
    for (const std::string& name : *names) remove_entry(fd, name);
  }

  void remove_entry(int fd, const std::string& name) {
    if (::unlinkat(fd, name.c_str(), 0) == 0 || errno == ENOENT) return;
    if (errno != EISDIR && errno != EPERM) return note(errno, "remove " + name);
    const int why = errno;  // EPERM also stands for an immutable file
    if (::unlinkat(fd, name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return;
    if (errno == ENOTDIR) return note(why, "remove " + name);
    if (errno != ENOTEMPTY && errno != EEXIST) return note(errno, "remove " + name);
    // Not into a mount: renaming a mount point answers EBUSY.
    if (::renameat(fd, name.c_str(), top_.get(), name_of(moved_).c_str()) != 0) {
      return note(errno, "move " + name);
    }
    ++moved_;
  }

  UniqueFd top_;
  uint64_t moved_ = 0;
  uint64_t done_ = 0;
  std::optional<Error> first_;
};

using InodeId = std::pair<dev_t, ino_t>;
InodeId id_of(const struct stat& st) { return {st.st_dev, st.st_ino}; }

// Walks with one open folder at a time; the way back is "..", checked against
// the inode it came from.
class Measurer {
 public:
  Result<Usage> run(UniqueFd top) {
    struct stat st;
    if (::fstat(top.get(), &st) != 0) return errno_error(errno, "stat");
    device_ = st.st_dev;
    count(st);
    RETURN_IF_ERROR(enter(std::move(top), id_of(st)));
    while (!stack_.empty()) RETURN_IF_ERROR(step());
    return usage_;
  }

 private:
  struct Level {
    InodeId id;
    std::vector<std::string> folders;  // still to visit
  };

  void count(const struct stat& st) {
    if (!S_ISDIR(st.st_mode) && st.st_nlink > 1 && !linked_.insert(id_of(st)).second) return;
    usage_.size += static_cast<uint64_t>(st.st_blocks) * kBlockBytes;
    ++usage_.inodes;
  }

  Status enter(UniqueFd fd, InodeId id) {
    current_ = std::move(fd);
    ASSIGN_OR_RETURN(const std::vector<std::string> names, names_in(current_.get()));
    Level level{id, {}};
    for (const std::string& name : names) {
      struct stat st;
      if (::fstatat(current_.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;
        return errno_error(errno, "stat " + name);
      }
      if (st.st_dev != device_) continue;
      count(st);
      if (S_ISDIR(st.st_mode)) level.folders.push_back(name);
    }
    stack_.push_back(std::move(level));
    return {};
  }

  Status step() {
    Level& level = stack_.back();
    if (level.folders.empty()) return leave();
    const std::string name = std::move(level.folders.back());
    level.folders.pop_back();
    UniqueFd fd = open_folder(current_.get(), name.c_str());
    struct stat st;
    if (!fd || ::fstat(fd.get(), &st) != 0) {
      if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return {};
      return errno_error(errno, "open " + name);
    }
    if (st.st_dev != device_) return {};
    return enter(std::move(fd), id_of(st));
  }

  Status leave() {
    stack_.pop_back();
    if (stack_.empty()) return {};
    UniqueFd up = open_folder(current_.get(), "..");
    struct stat st;
    if (!up || ::fstat(up.get(), &st) != 0) return errno_error(errno, "open ..");
    if (id_of(st) != stack_.back().id) {
      return Error(Code::unavailable, "a folder was moved while it was measured");
    }
    current_ = std::move(up);
    return {};
  }

  dev_t device_ = 0;
  UniqueFd current_;
  std::vector<Level> stack_;
  std::set<InodeId> linked_;
  Usage usage_;
};

}  // namespace

Status remove_tree(const std::filesystem::path& path) {
  UniqueFd top = open_folder(AT_FDCWD, path.c_str());
  if (!top) {
    if (errno == ENOENT) return {};
    if (errno == ENOTDIR || errno == ELOOP) {
      if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
    }
    return errno_error(errno, "remove " + path.string());
  }
  const std::optional<Error> failed = Remover(std::move(top)).run();
  if (failed) return failed->with_context("below " + path.string());
  if (::rmdir(path.c_str()) != 0 && errno != ENOENT) {
    return errno_error(errno, "remove " + path.string());
  }
  return {};
}

Result<Usage> disk_usage(const std::filesystem::path& path) {
  UniqueFd top = open_folder(AT_FDCWD, path.c_str());
  if (!top) return errno_error(errno, "open " + path.string());
  auto usage = Measurer().run(std::move(top));
  if (!usage.ok()) return usage.error().with_context("measuring " + path.string());
  return usage;
}

}  // namespace pagein::snapshotter
