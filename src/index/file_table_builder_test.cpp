#include "index/file_table_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "index/path.h"

namespace pagein::index {
namespace {

using testing::ElementsAre;

tar::Entry make(tar::EntryType type, std::string path, std::string target = {}) {
  tar::Entry entry;
  entry.type = type;
  entry.path = std::move(path);
  entry.link_target = std::move(target);
  entry.mode = type == tar::EntryType::directory ? 0755 : 0644;
  return entry;
}
tar::Entry file(std::string path) { return make(tar::EntryType::regular, std::move(path)); }
tar::Entry dir(std::string path) { return make(tar::EntryType::directory, std::move(path)); }

FileTable build(const std::vector<tar::Entry>& entries) {
  FileTableBuilder builder;
  for (const tar::Entry& entry : entries) {
    if (Status status = builder.add(entry); !status.ok()) ADD_FAILURE() << status.error().message;
  }
  return builder.finish();
}

Status refused(const std::vector<tar::Entry>& entries) {
  FileTableBuilder builder;
  for (const tar::Entry& entry : entries) RETURN_IF_ERROR(builder.add(entry));
  return {};
}

// "d usr", "f usr/a", ... in order; implied directories are "i".
std::vector<std::string> listing(const FileTable& table) {
  static constexpr char kLetters[] = "?fdlhcbpwoi";
  std::vector<std::string> out;
  for (EntryId id = 0; id < table.size(); ++id) {
    out.push_back(std::string(1, kLetters[static_cast<size_t>(table[id].type)]) + " " +
                  table.path(id));
  }
  return out;
}

TEST(FileTableBuilder, NormalisesPathsAndAddsParents) {
  EXPECT_THAT(listing(build({file("./usr//bin/../lib/a"), file("/usr/lib/b"), file("../../c"),
                             dir("usr/lib/"), file("")})),
              ElementsAre("i ", "i usr", "d usr/lib", "f usr/lib/a", "f usr/lib/b", "f c"));
}

TEST(FileTableBuilder, RootEntrySetsAttributes) {
  tar::Entry root = dir("./");
  root.mode = 0700;
  root.xattrs = {{"user.a", "1"}};
  const FileTable table = build({file("a"), root});
  EXPECT_THAT(listing(table), ElementsAre("d ", "f a"));
  EXPECT_EQ(table[kRootEntry].mode, 0700);
  EXPECT_EQ(table[kRootEntry].xattr_count, 1u);
}

TEST(FileTableBuilder, RefusedEntriesChangeNothing) {
  tar::Entry refused = dir("a");
  refused.mode = 0700;
  refused.xattrs = {{"user.b", "1"}, {"user.a", "2"}};
  FileTableBuilder builder;
  ASSERT_TRUE(builder.add(dir("a")).ok());
  EXPECT_FALSE(builder.add(refused).ok());
  refused.path = ".";
  EXPECT_FALSE(builder.add(refused).ok());
  const FileTable table = builder.finish();
  EXPECT_EQ(table[1].mode, 0755);
  EXPECT_EQ(table[1].xattr_count, 0u);
  EXPECT_EQ(table[kRootEntry].type, FileType::implied_directory);
}

TEST(FileTableBuilder, WhiteoutsAndAufsMetadata) {
  const FileTable table =
      build({file(".wh.gone"), file("a/.wh..wh..opq"), dir("b/.wh.dir"), file(".wh..wh.plnk/1.2"),
             file(".wh..wh.aufs"), file("c/.wh..wh..opq/x"), file("a/x.wh..wh.y")});
  EXPECT_THAT(listing(table),
              ElementsAre("i ", "w gone", "i a", "o a/", "i b", "w b/dir", "f a/x.wh..wh.y"));
  for (const char* name : {".wh.", "a/.wh..", ".wh..."}) {
    EXPECT_EQ(refused({file(name)}).error().code, Code::corrupt_input) << name;
  }
}

TEST(FileTableBuilder, RepeatedPaths) {
  tar::Entry second = dir("a");
  second.mode = 0711;
  const FileTable table = build({dir("a"), file("a/x"), second, file("a/x"),
                                 make(tar::EntryType::symlink, "a", "elsewhere"), file("a/y"),
                                 file("f"), file("f/below")});
  EXPECT_THAT(listing(table), ElementsAre("i ", "d a", "f a/x", "f a/x", "l a", "i a", "f a/y",
                                          "f f", "i f", "f f/below"));
  EXPECT_EQ(table[1].mode, 0711);
  EXPECT_EQ(table[6].parent, 5u) << "not the directory that was replaced";
}

TEST(FileTableBuilder, DirectoriesBelowAReplacedOneAreForgotten) {
  const FileTable table = build({dir("a"), dir("a/b"), file("a"), dir("a"), file("a/b/c")});
  EXPECT_THAT(listing(table), ElementsAre("i ", "d a", "d a/b", "f a", "d a", "i a/b", "f a/b/c"));
  EXPECT_EQ(table[5].parent, 4u);
}

TEST(FileTableBuilder, LinkTargets) {
  const FileTable table = build({make(tar::EntryType::symlink, "s", "../x/"),
                                 make(tar::EntryType::hardlink, "h", "/usr/./b/../a")});
  EXPECT_EQ(table.target(table[1]), "../x/");
  EXPECT_EQ(table.target(table[2]), "usr/a");
  EXPECT_FALSE(refused({make(tar::EntryType::symlink, "s", "")}).ok());
  EXPECT_FALSE(refused({make(tar::EntryType::symlink, "s", std::string(4096, 'x'))}).ok());
  EXPECT_FALSE(refused({make(tar::EntryType::hardlink, "h", "./")}).ok());
}

TEST(FileTableBuilder, NumbersAreCutToWhatTheKernelTakes) {
  tar::Entry odd = make(tar::EntryType::char_device, "dev");
  odd.uid = -1;
  odd.gid = (int64_t{1} << 32) + 5;
  odd.mtime_sec = -5;
  odd.mtime_nsec = 7;
  odd.dev_major = 0x1002;
  odd.dev_minor = 0x123456;
  odd.xattrs = {{"security.a", "1"}, {"user.b", "2"}};
  const FileTable table = build({odd, make(tar::EntryType::char_device, "whiteout-like")});
  const Entry& entry = table[1];
  EXPECT_EQ(entry.uid, 0u);
  EXPECT_EQ(entry.gid, 5u);
  EXPECT_EQ(entry.mtime_sec, 0);
  EXPECT_EQ(entry.mtime_nsec, 0u);
  EXPECT_EQ(entry.dev_major, 2u);
  EXPECT_EQ(entry.dev_minor, 0x23456u);
  ASSERT_EQ(entry.xattr_count, 1u);
  EXPECT_EQ(table.xattr(entry, 0).name, "security.a");
  EXPECT_EQ(table[2].type, FileType::char_device);
}

TEST(FileTableBuilder, EqualXattrListsAreStoredOnce) {
  tar::Entry a = file("a");
  a.xattrs = {{"security.selinux", "label"}, {"user.x", std::string("\0\1", 2)}};
  tar::Entry b = a;
  b.path = "b";
  const FileTable table = build({a, b});
  EXPECT_EQ(table[1].xattr_first, table[2].xattr_first);
  EXPECT_EQ(table.xattr(table[2], 1).value, std::string_view("\0\1", 2));
  std::swap(a.xattrs[0], a.xattrs[1]);
  EXPECT_FALSE(refused({a}).ok());
}

TEST(FileTableBuilder, ContentMustNotOverlapAndMapsMustFit) {
  tar::Entry a = file("a");
  a.content_offset = 512;
  a.content_length = a.size = 1000;
  tar::Entry b = a;
  b.path = "b";
  EXPECT_FALSE(refused({a, b}).ok());
  b.content_offset = 2048;
  EXPECT_TRUE(refused({a, b}).ok());
  b.sparse = true;
  b.size = 100000;
  b.segments = {{0, 500}, {8192, 500}};
  EXPECT_TRUE(refused({a, b}).ok());
  b.size = uint64_t{1} << 63;
  EXPECT_FALSE(refused({a, b}).ok());
  b.size = 100000;
  b.segments = {{0, 500}, {8192, 501}};
  EXPECT_FALSE(refused({a, b}).ok());
  b.segments = {{8192, 500}, {0, 500}};
  EXPECT_FALSE(refused({a, b}).ok());
}

TEST(Path, LimitsAndForms) {
  std::string out;
  EXPECT_TRUE(normalise_path(std::string(255, 'x'), out).ok());
  EXPECT_FALSE(normalise_path(std::string(256, 'x'), out).ok());
  std::string deep;
  for (int i = 0; i < 2047; ++i) deep += "a/";
  EXPECT_TRUE(normalise_path(deep + "b", out).ok());
  EXPECT_EQ(out.size(), kMaxPathBytes);
  EXPECT_FALSE(normalise_path(deep + "bc", out).ok());
  EXPECT_FALSE(normalise_path(std::string_view("a\0b", 3), out).ok());
  EXPECT_TRUE(is_normal_path("a/b"));
  for (const char* path : {"", "/a", "a/", "a//b", "a/./b", ".."}) {
    EXPECT_FALSE(is_normal_path(path)) << path;
  }
}

}  // namespace
}  // namespace pagein::index
