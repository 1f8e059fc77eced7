#include "node/lower_directory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/file.h"

namespace pagein::node {
namespace {

class LowerDirectoryTest : public testing::Test {
 protected:
  LowerDirectoryTest() {
    std::filesystem::create_directory(top());
    std::filesystem::create_directory(bottom());
  }
  std::filesystem::path top() const { return dir_.path() / "top"; }
  std::filesystem::path bottom() const { return dir_.path() / "bottom"; }
  void make(const std::filesystem::path& path, mode_t mode) {
    std::filesystem::create_directories(path);
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
  }
  Result<std::optional<tree::LowerDirectory>> look(std::string_view path) {
    return lower_directory_lookup({top().native(), bottom().native()})(path);
  }
  // The mode of what is found; 0: nothing.
  int mode(std::string_view path) {
    const auto found = look(path);
    EXPECT_TRUE(found.ok()) << found.error().message;
    return found.ok() && *found ? (*found)->attributes.mode : 0;
  }

  TempDir dir_ = TempDir::make("lower-").value();
};

TEST_F(LowerDirectoryTest, TheTopmostWins) {
  make(bottom() / "a/b", 0701);
  make(bottom() / "only", 01777);
  make(top() / "a", 0750);
  make(top() / "a/b", 0705);
  EXPECT_EQ(mode("a/b"), 0705);
  EXPECT_EQ(mode("a"), 0750);
  EXPECT_EQ(mode("only"), 01777);
  EXPECT_EQ(mode("nowhere/at/all"), 0);
  EXPECT_NE(mode(""), 0) << "the root";
}

TEST_F(LowerDirectoryTest, GivesOwnerTimeAndAttributes) {
  make(bottom() / "d", 0755);
  const timespec times[2] = {{5, 0}, {1234567, 89}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (bottom() / "d").c_str(), times, 0), 0);
  const bool with_xattr = ::setxattr((bottom() / "d").c_str(), "user.note", "x", 1, 0) == 0;
  const auto found = look("d");
  ASSERT_TRUE(found.ok() && *found);
  EXPECT_EQ((*found)->attributes.uid, ::geteuid());
  EXPECT_EQ((*found)->attributes.mtime_sec, 1234567);
  EXPECT_EQ((*found)->attributes.mtime_nsec, 89u);
  if (with_xattr) {
    ASSERT_EQ((*found)->xattrs.size(), 1u);
    EXPECT_EQ((*found)->xattrs[0], (std::pair<std::string, std::string>("user.note", "x")));
  }
}

TEST_F(LowerDirectoryTest, FilesAndWhiteoutsHideWhatIsBelow) {
  make(bottom() / "a/b", 0755);
  make(bottom() / "w/b", 0755);
  ASSERT_TRUE(replace_file(top() / "a", as_bytes("file")).ok());
  EXPECT_EQ(mode("a/b"), 0);
  EXPECT_EQ(mode("a"), 0);
  if (::mknod((top() / "w").c_str(), S_IFCHR, makedev(0, 0)) != 0) {
    GTEST_SKIP() << "needs the right to make device nodes";
  }
  EXPECT_EQ(mode("w"), 0);
  EXPECT_EQ(mode("w/b"), 0);
}

TEST_F(LowerDirectoryTest, OpaqueDirectoriesHideWhatIsBelow) {
  make(bottom() / "a/old", 0755);
  make(top() / "a/new", 0711);
  if (::setxattr((top() / "a").c_str(), "trusted.overlay.opaque", "y", 1, 0) != 0) {
    GTEST_SKIP() << "needs the right to set trusted attributes";
  }
  EXPECT_EQ(mode("a/new"), 0711);
  EXPECT_EQ(mode("a/old"), 0);
  EXPECT_NE(mode("a"), 0);
}

// A hostile image's symlink must not show the host's folders.
TEST_F(LowerDirectoryTest, SymlinksLeadNowhere) {
  make(dir_.path() / "host/secret", 0700);
  std::filesystem::create_symlink(dir_.path() / "host", top() / "a");
  make(bottom() / "a/secret", 0755);
  EXPECT_EQ(mode("a/secret"), 0);
  EXPECT_EQ(mode("a"), 0);
}

TEST_F(LowerDirectoryTest, VeryLongPathsAreFine) {
  std::string path;
  for (int i = 0; i < 100; ++i) path += std::string(200, 'x') + "/";
  EXPECT_EQ(mode(path + "end"), 0);
}

}  // namespace
}  // namespace pagein::node
