#include "snapshotter/tree.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshotter/test_api.h"

namespace pagein::snapshotter {
namespace {

namespace fs = std::filesystem;

class Tree : public testing::Test {
 protected:
  void SetUp() override {
    auto dir = TempDir::make("pagein-tree-");
    ASSERT_TRUE(dir.ok());
    dir_ = std::make_unique<TempDir>(*std::move(dir));
    top_ = dir_->path() / "top";
    fs::create_directory(top_);
  }

  // Deeper than PATH_MAX and than there are descriptors.
  void make_deep(int levels) {
    UniqueFd at(::open(top_.c_str(), O_RDONLY | O_DIRECTORY));
    for (int i = 0; i < levels; ++i) {
      ASSERT_EQ(::mkdirat(at.get(), "deep", 0755), 0);
      UniqueFd file(::openat(at.get(), "file", O_CREAT | O_WRONLY, 0644));
      ASSERT_TRUE(file.valid());
      at = UniqueFd(::openat(at.get(), "deep", O_RDONLY | O_DIRECTORY));
      ASSERT_TRUE(at.valid());
    }
  }

  std::unique_ptr<TempDir> dir_;
  fs::path top_;
};

TEST_F(Tree, RemovesAll) {
  fs::create_directories(top_ / "a/b/c");
  fs::create_directories(top_ / "a/b2");
  write_text(top_ / "a/b/file", "x");
  fs::create_symlink("/", top_ / "a/link");
  write_text(top_ / ".removing-0", "named like ours");
  ::chmod((top_ / "a").c_str(), 0);
  ASSERT_TRUE(remove_tree(top_).ok());
  EXPECT_FALSE(fs::exists(top_));
  EXPECT_TRUE(remove_tree(top_).ok());
}

TEST_F(Tree, DoesNotFollowLinks) {
  const fs::path other = dir_->path() / "other";
  fs::create_directory(other);
  write_text(other / "keep", "x");
  fs::create_directory_symlink(other, top_ / "link");
  fs::create_directory_symlink(other, dir_->path() / "toplink");
  ASSERT_TRUE(remove_tree(top_).ok());
  ASSERT_TRUE(remove_tree(dir_->path() / "toplink").ok());
  EXPECT_TRUE(fs::exists(other / "keep"));
}

TEST_F(Tree, VeryDeep) {
  make_deep(3000);
  const auto usage = disk_usage(top_);
  ASSERT_TRUE(usage.ok()) << usage.error().message;
  EXPECT_EQ(usage->inodes, 6001u);
  const Status status = remove_tree(top_);
  EXPECT_TRUE(status.ok()) << status.error().message;
  EXPECT_FALSE(fs::exists(top_));
}

TEST_F(Tree, DoesNotEnterMounts) {
  std::string why;
  if (!can_mount(why)) GTEST_SKIP() << why;
  const fs::path other = dir_->path() / "other";
  fs::create_directory(other);
  write_text(other / "keep", std::string(100000, 'x'));
  fs::create_directories(top_ / "sub/mnt");
  ASSERT_EQ(::mount("tmpfs", (top_ / "sub/mnt").c_str(), "tmpfs", 0, nullptr), 0);
  write_text(top_ / "sub/mnt/keep", "x");
  EXPECT_EQ(disk_usage(top_)->inodes, 2u);
  const Status status = remove_tree(top_);
  EXPECT_FALSE(status.ok());
  // The folder around it was moved up before it was found busy.
  fs::path kept;
  for (const auto& entry : fs::recursive_directory_iterator(top_)) {
    if (entry.path().filename() == "keep") kept = entry.path();
  }
  EXPECT_FALSE(kept.empty());
  EXPECT_EQ(::umount(kept.parent_path().c_str()), 0);
  EXPECT_TRUE(remove_tree(top_).ok());
}

TEST_F(Tree, UsageCountsAFileWithManyNamesOnce) {
  write_text(top_ / "one", std::string(8192, 'x'));
  fs::create_hard_link(top_ / "one", top_ / "two");
  fs::create_directory(top_ / "sub");
  fs::create_hard_link(top_ / "one", top_ / "sub/three");
  const auto usage = disk_usage(top_);
  ASSERT_TRUE(usage.ok());
  EXPECT_EQ(usage->inodes, 3u);
  struct stat file, top, sub;
  ::stat((top_ / "one").c_str(), &file);
  ::stat(top_.c_str(), &top);
  ::stat((top_ / "sub").c_str(), &sub);
  EXPECT_EQ(usage->size,
            512u * static_cast<uint64_t>(file.st_blocks + top.st_blocks + sub.st_blocks));
  EXPECT_EQ(disk_usage(dir_->path() / "nothing").error().code, Code::not_found);
}

}  // namespace
}  // namespace pagein::snapshotter
