// The helpers of test_api.h that need no gRPC.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <thread>

#include "snapshotter/snapshotter.h"
#include "snapshotter/test_api.h"

namespace pagein::snapshotter {

namespace fs = std::filesystem;

namespace {

class DirectApi final : public Api {
 public:
  explicit DirectApi(Snapshotter& snapshotter) : snapshotter_(snapshotter) {}
  Result<std::vector<Mount>> prepare(const std::string& key, const std::string& parent,
                                     const Labels& labels) override {
    return snapshotter_.prepare(key, parent, labels);
  }
  Result<std::vector<Mount>> view(const std::string& key, const std::string& parent,
                                  const Labels& labels) override {
    return snapshotter_.view(key, parent, labels);
  }
  Result<std::vector<Mount>> mounts(const std::string& key) override {
    return snapshotter_.mounts(key);
  }
  Status commit(const std::string& name, const std::string& key, const Labels& labels) override {
    return snapshotter_.commit(name, key, labels);
  }
  Status remove(const std::string& key) override { return snapshotter_.remove(key); }
  Result<Info> stat(const std::string& key) override { return snapshotter_.stat(key); }
  Result<Info> update(const Info& info, const std::vector<std::string>& paths) override {
    return snapshotter_.update(info, paths);
  }
  Result<std::vector<Info>> list(const std::vector<std::string>& filters) override {
    return snapshotter_.list(filters);
  }
  Result<Usage> usage(const std::string& key) override { return snapshotter_.usage(key); }
  Status cleanup() override { return snapshotter_.cleanup(); }

 private:
  Snapshotter& snapshotter_;
};

// From fstab's words to mount(2)'s flags and data. Long lists of lowers are
// made relative to the common folder, as containerd does (a page is the limit).
struct Arguments {
  unsigned long flags = 0;
  std::string data;
  fs::path folder;
};

Arguments arguments_of(const Mount& mount) {
  Arguments arguments;
  for (const std::string& option : mount.options) {
    if (option == "ro") {
      arguments.flags |= MS_RDONLY;
    } else if (option == "rbind") {
      arguments.flags |= MS_BIND | MS_REC;
    } else if (option != "rw") {
      arguments.data += (arguments.data.empty() ? "" : ",") + option;
    }
  }
  const size_t at = arguments.data.find("/snapshots/");
  if (arguments.data.size() > 4000 && at != std::string::npos) {
    const size_t begin = arguments.data.rfind('=', at) + 1;
    const std::string prefix = arguments.data.substr(begin, at + 11 - begin);
    arguments.folder = prefix;
    for (size_t i; (i = arguments.data.find(prefix)) != std::string::npos;) {
      arguments.data.erase(i, prefix.size());
    }
  }
  return arguments;
}

Status mount_one(const Mount& mount, const fs::path& target) {
  const Arguments arguments = arguments_of(mount);
  Status status;
  // A thread of its own, so that it has a working folder of its own.
  std::thread([&] {
    if (!arguments.folder.empty() &&
        (::unshare(CLONE_FS) != 0 || ::chdir(arguments.folder.c_str()) != 0)) {
      status = errno_error(errno, "chdir");
      return;
    }
    if (::mount(mount.source.c_str(), target.c_str(), mount.type.c_str(), arguments.flags,
                arguments.data.c_str()) != 0) {
      status = errno_error(errno, "mount " + mount.type + " " + arguments.data);
      return;
    }
    // A bind mount takes "ro" only from a second call.
    if ((arguments.flags & MS_BIND) && (arguments.flags & MS_RDONLY) &&
        ::mount("", target.c_str(), "", MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) != 0) {
      status = errno_error(errno, "remount read-only");
    }
  }).join();
  return status;
}

}  // namespace

std::unique_ptr<Api> direct_api(Snapshotter& snapshotter) {
  return std::make_unique<DirectApi>(snapshotter);
}

Result<Mounted> Mounted::make(const std::vector<Mount>& mounts, const fs::path& target) {
  RETURN_IF_ERROR(make_dirs(target));
  for (const Mount& mount : mounts) RETURN_IF_ERROR(mount_one(mount, target));
  return Mounted(target);
}

Mounted& Mounted::operator=(Mounted&& other) noexcept {
  std::swap(target_, other.target_);
  return *this;
}

Mounted::~Mounted() {
  if (!target_.empty() && ::umount2(target_.c_str(), 0) != 0) {
    ::umount2(target_.c_str(), MNT_DETACH);
  }
}

bool can_mount(std::string& why) {
  if (::geteuid() != 0) {
    why = "mounting needs root";
    return false;
  }
  auto dir = TempDir::make("pagein-can-mount-");
  if (!dir.ok()) {
    why = dir.error().message;
    return false;
  }
  for (const char* name : {"lower", "upper", "work"}) fs::create_directory(dir->path() / name);
  const std::string root = dir->path().string();
  const Mount overlay{
      "overlay",
      "overlay",
      {"workdir=" + root + "/work", "upperdir=" + root + "/upper", "lowerdir=" + root + "/lower"}};
  const auto mounted = Mounted::make({overlay}, dir->path() / "merged");
  if (!mounted.ok()) why = mounted.error().message;
  return mounted.ok();
}

std::map<std::string, std::string> tree_of(const fs::path& root) {
  std::map<std::string, std::string> tree;
  for (fs::recursive_directory_iterator it(root), end; it != end; ++it) {
    struct stat st;
    if (::lstat(it->path().c_str(), &st) != 0) continue;
    char head[64];
    std::snprintf(head, sizeof head, "%06o %u:%u ", st.st_mode, st.st_uid, st.st_gid);
    std::string value = head;
    if (S_ISREG(st.st_mode)) value += std::to_string(st.st_nlink) + " " + read_text(it->path());
    if (S_ISLNK(st.st_mode)) value += fs::read_symlink(it->path()).string();
    tree[fs::relative(it->path(), root).string()] = value;
  }
  return tree;
}

void write_text(const fs::path& path, const std::string& text, mode_t mode) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
  ::chmod(path.c_str(), mode);
}

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

}  // namespace pagein::snapshotter
