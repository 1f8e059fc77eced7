#include "mount/mount_table.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "base/file.h"

namespace pagein::mount {
namespace {

TEST(MountTable, ParsesLinesAndUndoesEscapes) {
  const auto entries = parse_mountinfo(
      "36 35 98:0 /mnt1 /mnt\\040with\\011odd\\134names rw,noatime shared:1 master:2 - ext3 "
      "/dev/root\\012x rw,errors=continue\n"
      "37 36 0:45 / /x ro - erofs  ro\n");
  ASSERT_TRUE(entries.ok()) << entries.error().message;
  ASSERT_EQ(entries->size(), 2u);
  const MountEntry& first = entries->front();
  EXPECT_EQ(first.id, 36u);
  EXPECT_EQ(first.parent, 35u);
  EXPECT_EQ(first.major, 98u);
  EXPECT_EQ(first.root, "/mnt1");
  EXPECT_EQ(first.target, "/mnt with\todd\\names");
  EXPECT_EQ(first.options, "rw,noatime");
  EXPECT_EQ(first.type, "ext3");
  EXPECT_EQ(first.source, "/dev/root\nx");
  EXPECT_EQ(first.super_options, "rw,errors=continue");
  EXPECT_EQ(entries->back().minor, 45u);
  EXPECT_EQ(entries->back().source, "");
}

TEST(MountTable, RefusesOtherLines) {
  for (const char* text : {"x", "1 2 3 4 5\n", "1 2 3:4 / /m rw\n", "1 2 3:4 / /m rw -\n",
                           "-1 2 3:4 / /m rw - t s o\n", "1 2 :4 / /m rw - t s o\n"}) {
    EXPECT_FALSE(parse_mountinfo(text).ok()) << text;
  }
  EXPECT_TRUE(parse_mountinfo("").value().empty());
}

TEST(MountTable, LoadsThisProcess) {
  const auto entries = load_mount_table();
  ASSERT_TRUE(entries.ok()) << entries.error().message;
  EXPECT_TRUE(std::any_of(entries->begin(), entries->end(),
                          [](const MountEntry& e) { return e.target == "/proc"; }));
  EXPECT_TRUE(is_mount_point("/proc").value());
  EXPECT_FALSE(is_mount_point("/proc/self").value());
  EXPECT_EQ(is_mount_point("/nowhere/at/all").error().code, Code::not_found);
}

TEST(Unmount, IsIdempotent) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount";
  TempDir dir = TempDir::make("pagein-unmount-").value();
  EXPECT_TRUE(unmount(dir.path(), UnmountMode::normal).ok());
  EXPECT_TRUE(unmount(dir.path() / "absent", UnmountMode::lazy).ok());
  ASSERT_EQ(::mount("none", dir.path().c_str(), "tmpfs", 0, nullptr), 0);
  {
    UniqueFd user = open_file(dir.path(), 0).value();
    EXPECT_EQ(unmount(dir.path(), UnmountMode::normal).error().sys_errno, EBUSY);
    EXPECT_TRUE(unmount(dir.path(), UnmountMode::lazy).ok());
  }
  EXPECT_FALSE(is_mount_point(dir.path()).value());
}

}  // namespace
}  // namespace pagein::mount
