// The kernel as judge: what a mount of the written image shows is compared with
// the tree, name by name and byte by byte.
#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <optional>
#include <set>

#include "base/byte_reader.h"
#include "base/file.h"
#include "erofs/sample_trees.h"
#include "erofs/writer.h"
#include "tree/merge.h"

namespace pagein::erofs {
namespace {

using index::FileType;
namespace fs = std::filesystem;

// Detached: gone with its descriptor.
Result<UniqueFd> mount_detached(const fs::path& metadata, const std::vector<fs::path>& devices) {
  UniqueFd context(fsopen("erofs", FSOPEN_CLOEXEC));
  if (!context) return errno_error(errno, "fsopen erofs");
  const auto set = [&](const char* key, const std::string& value) -> Status {
    if (fsconfig(context.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0) == 0) return {};
    return errno_error(errno, std::string("fsconfig ") + key);
  };
  RETURN_IF_ERROR(set("source", metadata));
  for (const fs::path& device : devices) RETURN_IF_ERROR(set("device", device));
  if (fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    const int error = errno;
    char log[512] = {};
    std::string text = "mounting " + metadata.string();
    while (read(context.get(), log, sizeof log - 1) > 0) text += std::string("; ") + log;
    return errno_error(error, text);
  }
  UniqueFd mount(fsmount(context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY));
  if (!mount) return errno_error(errno, "fsmount");
  return mount;
}

// What byte `offset` of layer `layer`'s data file is, outside of files' tails too.
uint8_t data_byte(uint32_t layer, uint64_t offset) {
  return static_cast<uint8_t>(1 + (layer * 131 + offset * 7 + (offset >> 12) * 13) % 251);
}

class KernelTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    auto dir = TempDir::make("pagein-erofs-");
    ASSERT_TRUE(dir.ok()) << dir.error().message;
    dir_.emplace(*std::move(dir));
  }

  enum class Data { on_devices, behind_metadata };

  // Writes image and data files, mounts, compares everything.
  void check(const tree::Tree& tree, Data where = Data::on_devices) {
    auto image = write_metadata(tree, options_for(tree));
    ASSERT_TRUE(image.ok()) << image.error().message;
    const fs::path metadata = dir_->path() / "metadata";
    fs::remove(metadata);
    std::ofstream(metadata, std::ios::binary) << as_text(*image);
    std::vector<fs::path> devices;
    for (uint32_t layer = 0; layer < tree.layers().size(); ++layer) {
      devices.push_back(dir_->path() / ("data" + std::to_string(layer)));
      fs::remove(devices.back());
      Bytes data(tree.layers()[layer].layout->data_size());
      for (uint64_t i = 0; i < data.size(); ++i) data[i] = data_byte(layer, i);
      const fs::path& to = where == Data::on_devices ? devices.back() : metadata;
      std::ofstream(to, std::ios::binary | std::ios::app) << as_text(data);
    }
    if (where == Data::behind_metadata) devices.clear();
    auto mount = mount_detached(metadata, devices);
    if (!mount.ok() && (mount.error().sys_errno == ENODEV || mount.error().sys_errno == ENOTBLK)) {
      GTEST_SKIP() << "the kernel has no file-backed EROFS: " << mount.error().message;
    }
    ASSERT_TRUE(mount.ok()) << mount.error().message;
    inodes_.clear();
    root_ = "/proc/self/fd/" + std::to_string(mount->get());
    for (tree::NodeId node = 0; node < tree.node_count(); ++node) {
      compare(tree, node);
      if (HasFailure()) return;
    }
  }

 private:
  void compare(const tree::Tree& tree, tree::NodeId node) {
    const tree::InodeId inode = tree.inode(node);
    const std::string path = node == 0 ? root_ + "/." : root_ + "/" + tree.path(node);
    SCOPED_TRACE(tree.path(node).substr(0, 300));
    const tree::Attributes want = tree.attributes(inode);
    struct stat st;
    ASSERT_EQ(lstat(path.c_str(), &st), 0) << strerror(errno);
    static const mode_t kTypes[] = {0,       S_IFREG, S_IFDIR, S_IFLNK, 0,
                                    S_IFCHR, S_IFBLK, S_IFIFO, S_IFCHR};
    ASSERT_EQ(st.st_mode, kTypes[static_cast<size_t>(want.type)] | want.mode);
    ASSERT_EQ(st.st_uid, want.uid);
    ASSERT_EQ(st.st_gid, want.gid);
    ASSERT_EQ(st.st_nlink, want.nlink);
    ASSERT_EQ(st.st_mtim.tv_sec, want.mtime_sec);
    ASSERT_EQ(st.st_mtim.tv_nsec, want.mtime_nsec);
    if (want.type != FileType::directory) {
      ASSERT_EQ(static_cast<uint64_t>(st.st_size), want.size);
    }
    ASSERT_EQ(major(st.st_rdev), want.dev_major);
    ASSERT_EQ(minor(st.st_rdev), want.dev_minor);
    // Hard links share their inode, others do not.
    const auto [it, added] = inodes_.try_emplace(st.st_ino, inode);
    ASSERT_EQ(it->second, inode);
    ASSERT_EQ(added, tree.first_node(inode) == node);
    compare_xattrs(tree, inode, path);
    if (want.type == FileType::symlink) {
      std::string target(5000, 0);
      target.resize(std::max<ssize_t>(0, readlink(path.c_str(), target.data(), target.size())));
      ASSERT_EQ(target, tree.symlink_target(inode));
    } else if (want.type == FileType::directory) {
      compare_names(tree, inode, path);
    } else if (want.type == FileType::regular) {
      compare_content(tree, inode, path);
    }
  }

  void compare_names(const tree::Tree& tree, tree::InodeId inode, const std::string& path) {
    std::set<std::string> names;
    DIR* dir = opendir(path.c_str());
    ASSERT_NE(dir, nullptr) << strerror(errno);
    static const int kTypes[] = {0, DT_REG, DT_DIR, DT_LNK, 0, DT_CHR, DT_BLK, DT_FIFO, DT_CHR};
    errno = 0;
    while (const dirent* d = readdir(dir)) {
      const std::string name = d->d_name;
      EXPECT_TRUE(names.insert(name).second) << name;
      if (name == "." || name == "..") continue;
      const auto node = tree.lookup(inode, name);
      EXPECT_TRUE(node.has_value()) << name;
      if (node) {
        EXPECT_EQ(d->d_type, kTypes[static_cast<size_t>(tree.type(tree.inode(*node)))]);
      }
    }
    EXPECT_EQ(errno, 0);
    closedir(dir);
    ASSERT_EQ(names.size(), tree.children(inode).count + 2);
    ASSERT_TRUE(names.count(".") && names.count(".."));
    ASSERT_NE(access((path + "/no such name").c_str(), F_OK), 0);
  }

  void compare_xattrs(const tree::Tree& tree, tree::InodeId inode, const std::string& path) {
    std::string list(65536, 0);
    const ssize_t size = llistxattr(path.c_str(), list.data(), list.size());
    ASSERT_GE(size, 0) << strerror(errno);
    std::set<std::string> names;
    for (const char* p = list.data(); p < list.data() + size; p += strlen(p) + 1) names.insert(p);
    std::set<std::string> want;
    for (const auto& xattr : tree.xattrs(inode)) {
      want.emplace(xattr.name);
      std::string value(65536, 0);
      const ssize_t got =
          lgetxattr(path.c_str(), std::string(xattr.name).c_str(), value.data(), value.size());
      ASSERT_GE(got, 0) << xattr.name << ": " << strerror(errno);
      value.resize(got);
      ASSERT_EQ(value, xattr.value) << xattr.name;
    }
    ASSERT_EQ(names, want);
  }

  void compare_content(const tree::Tree& tree, tree::InodeId inode, const std::string& path) {
    UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(file.valid()) << strerror(errno);
    const uint64_t size = tree.attributes(inode).size;
    const tree::Content content = tree.content(inode);
    uint64_t hole = 0;
    for (const index::Region& region : content.regions) {
      expect_zeros(file.get(), hole, region.file_offset);
      Bytes got(region.length);
      ASSERT_TRUE(pread_full(file.get(), got, region.file_offset).ok());
      for (uint64_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i], data_byte(content.layer, region.data_offset + i)) << i;
      }
      hole = region.file_offset + region.length;
    }
    expect_zeros(file.get(), hole, size);
    uint8_t byte;
    ASSERT_EQ(pread(file.get(), &byte, 1, static_cast<off_t>(size)), 0);
  }

  // Of large holes the ends and a bit in the middle.
  void expect_zeros(int file, uint64_t begin, uint64_t end) {
    constexpr uint64_t kPiece = 128 << 10;
    if (end - begin > 4 * kPiece) {
      expect_zeros(file, begin, begin + kPiece);
      const uint64_t middle = begin + (end - begin) / 2;
      expect_zeros(file, middle, middle + kPiece);
      begin = end - kPiece;
    }
    Bytes got(end - begin, 1);
    ASSERT_TRUE(pread_full(file, got, begin).ok());
    ASSERT_TRUE(std::all_of(got.begin(), got.end(), [](uint8_t b) { return b == 0; }));
  }

  std::optional<TempDir> dir_;
  std::string root_;
  std::map<ino_t, tree::InodeId> inodes_;
};

TEST_F(KernelTest, ShowsEveryKindOfFile) { check(every_kind()); }
TEST_F(KernelTest, ShowsALargeDirectory) { check(large_directory(100'000)); }
TEST_F(KernelTest, ShowsLongNames) { check(long_names()); }
TEST_F(KernelTest, ShowsADeepTree) { check(deep_tree(1000)); }
TEST_F(KernelTest, Shows300Devices) { check(many_layers(300)); }
TEST_F(KernelTest, ShowsSparseFiles) { check(sparse_files()); }
TEST_F(KernelTest, ShowsSharedAndLargeXattrs) { check(many_xattrs()); }
TEST_F(KernelTest, ShowsOverlayMarks) { check(over_layers()); }

// The same image serves where no devices are given and one file holds it all.
TEST_F(KernelTest, ShowsAFlatFile) {
  check(every_kind(), Data::behind_metadata);
  check(many_layers(30), Data::behind_metadata);
}

// Device counts around the block where the inodes begin (nid of the root: 1 .. 128).
TEST_F(KernelTest, ShowsTheRootBehindAnyDeviceTable) {
  for (const size_t count : {22, 23, 24}) check(many_layers(count));
}

}  // namespace
}  // namespace pagein::erofs
