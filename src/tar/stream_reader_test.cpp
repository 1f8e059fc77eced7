#include "tar/stream_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "tar/test_archive.h"

namespace pagein::tar {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

struct Collected : EntrySink {
  Status on_entry(const Entry& entry) override {
    entries.push_back(entry);
    return {};
  }
  std::vector<Entry> entries;
};

struct Outcome {
  std::vector<Entry> entries;
  std::optional<Error> error;
};

Outcome read(std::string_view archive, size_t piece = SIZE_MAX) {
  Collected sink;
  StreamReader reader(sink);
  ByteView rest = as_bytes(archive);
  while (!rest.empty()) {
    const ByteView next = rest.first(std::min(piece, rest.size()));
    rest = rest.subspan(next.size());
    if (Status status = reader.feed(next); !status.ok()) {
      return {std::move(sink.entries), std::move(status).error()};
    }
  }
  if (Status status = reader.finish(); !status.ok()) {
    return {std::move(sink.entries), std::move(status).error()};
  }
  EXPECT_EQ(reader.offset(), archive.size());
  return {std::move(sink.entries), std::nullopt};
}

std::vector<Entry> read_all(const TestArchive& archive) {
  Outcome outcome = read(archive.bytes());
  if (outcome.error) ADD_FAILURE() << outcome.error->message;
  return std::move(outcome.entries);
}

Entry read_one(const TestArchive& archive) {
  std::vector<Entry> entries = read_all(archive);
  if (entries.size() != 1) {
    ADD_FAILURE() << entries.size() << " entries";
    return {};
  }
  return std::move(entries[0]);
}

void expect_refused(const TestArchive& archive, std::string_view why,
                    Code code = Code::corrupt_input) {
  const Outcome outcome = read(archive.bytes());
  ASSERT_TRUE(outcome.error.has_value()) << "expected: " << why;
  EXPECT_EQ(outcome.error->code, code) << outcome.error->message;
  EXPECT_THAT(outcome.error->message, HasSubstr(why));
}

// Segments as text, so that failures can be read.
std::string segments(const Entry& entry) {
  std::string out;
  for (const SparseSegment& s : entry.segments) {
    out += std::to_string(s.file_offset) + "+" + std::to_string(s.length) + " ";
  }
  return out;
}

TEST(StreamReader, UstarFieldsAndOffsets) {
  TestArchive archive;
  archive.directory("usr/")
      .file("usr/a", "hello")
      .entry({.name = "b", .mode = "0004755", .uid = "0000012", .prefix = "usr/lib"},
             std::string(600, 'x'));
  archive.header({.name = "c", .type = '2', .link = "a"}).end();
  const std::vector<Entry> entries = read_all(archive);
  ASSERT_THAT(entries, SizeIs(4));
  EXPECT_EQ(entries[0].type, EntryType::directory);
  EXPECT_EQ(entries[0].path, "usr/");
  EXPECT_EQ(entries[1].size, 5u);
  EXPECT_EQ(entries[1].content_offset, 1024u);
  EXPECT_EQ(entries[1].content_length, 5u);
  EXPECT_EQ(entries[1].mtime_sec, 014000000000);
  EXPECT_EQ(entries[2].path, "usr/lib/b");
  EXPECT_EQ(entries[2].mode, 04755);
  EXPECT_EQ(entries[2].uid, 10);
  EXPECT_EQ(entries[2].content_offset, 2048u);
  EXPECT_EQ(entries[3].type, EntryType::symlink);
  EXPECT_EQ(entries[3].link_target, "a");
}

TEST(StreamReader, PiecesOfAnySizeGiveTheSame) {
  TestArchive archive;
  archive.pax({{"path", std::string(300, 'p')}, {"SCHILY.xattr.user.a", "1"}});
  archive.file("short", std::string(1000, 'c'));
  archive.entry({.name = "././@LongLink", .type = 'L'}, std::string(200, 'l') + '\0');
  archive.file("short", "x").end().raw("garbage");
  const Outcome whole = read(archive.bytes());
  ASSERT_FALSE(whole.error.has_value());
  for (const size_t piece : {1u, 7u, 511u, 512u, 513u, 1500u}) {
    const Outcome cut = read(archive.bytes(), piece);
    ASSERT_FALSE(cut.error.has_value()) << piece;
    ASSERT_EQ(cut.entries.size(), whole.entries.size());
    for (size_t i = 0; i < cut.entries.size(); ++i) {
      EXPECT_EQ(cut.entries[i].path, whole.entries[i].path);
      EXPECT_EQ(cut.entries[i].content_offset, whole.entries[i].content_offset);
    }
  }
}

TEST(StreamReader, PaxRecordsOverrideTheHeader) {
  TestArchive archive;
  archive.pax({{"path", "a=b"},
               {"uid", "3000000000"},
               {"gid", "7"},
               {"mtime", "1700000000.123456789"},
               {"hdrcharset", "BINARY"},
               {"SCHILY.xattr.security.capability", std::string("\1\0=\n\2", 5)},
               {"SCHILY.xattr.a", ""}});
  archive.file("short", "").end();
  const Entry entry = read_one(archive);
  EXPECT_EQ(entry.path, "a=b");
  EXPECT_EQ(entry.uid, 3000000000);
  EXPECT_EQ(entry.gid, 7);
  EXPECT_EQ(entry.mtime_sec, 1700000000);
  EXPECT_EQ(entry.mtime_nsec, 123456789u);
  ASSERT_THAT(entry.xattrs, SizeIs(2));
  EXPECT_EQ(entry.xattrs[0].name, "a");
  EXPECT_EQ(entry.xattrs[1].name, "security.capability");
  EXPECT_EQ(entry.xattrs[1].value, std::string("\1\0=\n\2", 5));
}

TEST(StreamReader, PaxSizeSaysHowMuchContentFollows) {
  TestArchive archive;
  archive.pax({{"size", "600"}});
  archive.header({.size = "00000000001"}).content(std::string(600, 'x')).file("next", "").end();
  const std::vector<Entry> entries = read_all(archive);
  ASSERT_THAT(entries, SizeIs(2));
  EXPECT_EQ(entries[0].size, 600u);
}

TEST(StreamReader, TimesMayBeNegativeOrShort) {
  struct Case {
    const char* text;
    int64_t sec;
    uint32_t nsec;
  };
  for (const Case& c :
       {Case{"-1", -1, 0}, Case{"-1.5", -2, 500000000}, Case{"-0.25", -1, 750000000},
        Case{"3.", 3, 0}, Case{"3.1234567899", 3, 123456789}}) {
    const Entry entry = read_one(TestArchive().pax({{"mtime", c.text}}).file("f", "").end());
    EXPECT_EQ(entry.mtime_sec, c.sec) << c.text;
    EXPECT_EQ(entry.mtime_nsec, c.nsec) << c.text;
  }
  expect_refused(TestArchive().pax({{"mtime", ".5"}}).file("f", ""), "malformed");
}

TEST(StreamReader, Base256Numbers) {
  const std::string minus_two("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", 12);
  const std::string large("\x80\0\0\0\0\0\0\1\0\0\0\0", 12);
  TestArchive archive;
  archive.header({.uid = std::string("\x80\0\0\0\xee\x6b\x28\0", 8),
                  .mtime = minus_two,
                  .magic = std::string("ustar  \0", 8)});
  archive.header({.name = "d", .type = '5', .size = large});
  const std::vector<Entry> entries = read_all(archive);
  ASSERT_THAT(entries, SizeIs(2));
  EXPECT_EQ(entries[0].uid, 4000000000);
  EXPECT_EQ(entries[0].mtime_sec, -2);
  expect_refused(TestArchive().header({.size = large}), "truncated");
  expect_refused(TestArchive().header({.size = minus_two}), "negative");
}

TEST(StreamReader, GlobalHeaderChangesNothingAndForgetsWhatWasPending) {
  TestArchive archive;
  archive.pax({{"path", "lost"}}).pax({{"path", "global"}, {"mtime", "5"}}, 'g');
  archive.file("kept", "").end();
  const Entry entry = read_one(archive);
  EXPECT_EQ(entry.path, "kept");
  EXPECT_NE(entry.mtime_sec, 5);
  EXPECT_THAT(read_all(TestArchive().pax({{"mtime", "x"}}, 'g').file("f", "")), SizeIs(1));
  expect_refused(TestArchive().entry({.type = 'g'}, "x").file("f", ""), "no length");
}

TEST(StreamReader, LastExtendedHeaderCountsAlone) {
  TestArchive archive;
  archive.pax({{"path", "one"}, {"uid", "5"}}).pax({{"path", "zero"}, {"path", "two"}});
  archive.file("f", "").end();
  const Entry entry = read_one(archive);
  EXPECT_EQ(entry.path, "two");
  EXPECT_EQ(entry.uid, 01750);
}

TEST(StreamReader, GnuLongNamesWinOverPax) {
  const std::string name(300, 'n');
  const std::string link(400, 'k');
  TestArchive archive;
  archive.entry({.name = "././@LongLink", .type = 'K'}, link + '\0');
  archive.entry({.name = "././@LongLink", .type = 'L'}, name + '\0' + "junk");
  archive.pax({{"path", "pax"}, {"linkpath", "pax"}});
  archive.header({.name = "cut", .type = '1', .link = "cut"}).file("plain", "").end();
  const std::vector<Entry> entries = read_all(archive);
  ASSERT_THAT(entries, SizeIs(2));
  EXPECT_EQ(entries[0].path, name);
  EXPECT_EQ(entries[0].link_target, link);
  EXPECT_EQ(entries[1].path, "plain");
}

TEST(StreamReader, GnuTimesAreNotAPrefix) {
  const std::string gnu("ustar  \0", 8);
  EXPECT_EQ(read_one(TestArchive().header({.magic = gnu, .prefix = "14000000000"})).path, "file");
  // ... but what is no time is one, as Go reads it.
  EXPECT_EQ(read_one(TestArchive().header({.magic = gnu, .prefix = "usr/lib"})).path,
            "usr/lib/file");
}

TEST(StreamReader, StarPrefixIsShorter) {
  const std::string prefix(131, 'p');
  TestArchive archive;
  archive.header(
      {.prefix = prefix, .patches = {{476, "14000000000"}, {488, "14000000000"}, {508, "tar"}}});
  EXPECT_EQ(read_one(archive).path, prefix + "/file");
}

TEST(StreamReader, TypesWithoutAndWithContent) {
  TestArchive archive;
  archive.header({.name = "link", .type = '1', .link = "file", .size = "00000000777"});
  archive.header({.name = "dev", .type = '3', .dev_major = "0000010", .dev_minor = "0000003"});
  archive.header({.name = "fifo", .type = '6'});
  archive.entry({.name = "contiguous", .type = '7'}, "abc");
  archive.entry({.name = "old", .type = '\0'}, "abc");
  archive.header({.name = "olddir/", .type = '\0', .magic = ""});
  archive.entry({.name = "notdir/", .type = '0'}, "");
  archive.entry({.name = "listing", .type = 'D'}, std::string(600, 'l'));
  archive.entry({.name = "label", .type = 'V'}, "");
  archive.end();
  const std::vector<Entry> entries = read_all(archive);
  ASSERT_THAT(entries, SizeIs(8));
  EXPECT_EQ(entries[0].type, EntryType::hardlink);
  EXPECT_EQ(entries[0].size, 0u);
  EXPECT_EQ(entries[1].type, EntryType::char_device);
  EXPECT_EQ(entries[1].dev_major, 8);
  EXPECT_EQ(entries[1].dev_minor, 3);
  EXPECT_EQ(entries[3].type, EntryType::regular);
  EXPECT_EQ(entries[4].type, EntryType::regular);
  EXPECT_EQ(entries[5].type, EntryType::directory);
  EXPECT_EQ(entries[6].type, EntryType::regular);
  EXPECT_EQ(entries[7].type, EntryType::directory);
  for (const char type : {'M', 'N', 'X', 'A', '8'}) {
    expect_refused(TestArchive().header({.type = type}), "entry type", Code::unsupported);
  }
}

TEST(StreamReader, WhereTheArchiveEnds) {
  const TestArchive one = TestArchive().file("f", "abc");
  EXPECT_THAT(read_all(one), SizeIs(1)) << "no end blocks";
  EXPECT_THAT(read_all(TestArchive(one).zeros(512)), SizeIs(1));
  EXPECT_THAT(read_all(TestArchive(one).end().raw("anything")), SizeIs(1));
  EXPECT_THAT(read_all(TestArchive(one).end().file("g", "")), SizeIs(1));
  EXPECT_THAT(read_all(TestArchive()), SizeIs(0));
  EXPECT_FALSE(read(one.bytes().substr(0, 515)).error.has_value()) << "padding missing";
  EXPECT_TRUE(read(one.bytes().substr(0, 514)).error.has_value()) << "content cut";
  EXPECT_TRUE(read(one.bytes().substr(0, 100)).error.has_value()) << "header cut";
  expect_refused(TestArchive(one).zeros(512).file("g", ""), "single block of zeros");
  expect_refused(TestArchive(one).zeros(600), "truncated");
}

TEST(StreamReader, Checksums) {
  expect_refused(TestArchive().header({.break_checksum = true}), "checksum");
  // Signed sums, as Sun's tar wrote them, are right too: 3 bytes of 0xe4 count
  // 256 less each.
  TestArchive archive;
  archive.header({.name = "\xe4\xe4\xe4"});
  std::string bytes = archive.bytes();
  const unsigned long sum = std::stoul(bytes.substr(148, 6), nullptr, 8) - 3 * 256;
  bytes.replace(148, 6, TestArchive::octal(sum, 6));
  EXPECT_FALSE(read(bytes).error.has_value());
}

TEST(StreamReader, Pax_0_0_And_0_1_SparseFiles) {
  TestArchive archive;
  archive.pax({{"GNU.sparse.size", "10000"},
               {"GNU.sparse.numblocks", "3"},
               {"GNU.sparse.offset", "0"},
               {"GNU.sparse.numbytes", "5"},
               {"GNU.sparse.offset", "8192"},
               {"GNU.sparse.numbytes", "2"},
               {"GNU.sparse.offset", "10000"},
               {"GNU.sparse.numbytes", "0"}});
  archive.file("zero", "1234567");
  archive.pax({{"GNU.sparse.name", "real/name"},
               {"GNU.sparse.size", "10000"},
               {"GNU.sparse.numblocks", "2"},
               {"GNU.sparse.map", "0,5,8192,2"}});
  archive.file("one", "1234567").end();
  const std::vector<Entry> entries = read_all(archive);
  ASSERT_THAT(entries, SizeIs(2));
  EXPECT_EQ(entries[1].path, "real/name");
  for (const Entry& entry : entries) {
    EXPECT_TRUE(entry.sparse);
    EXPECT_EQ(entry.size, 10000u);
    EXPECT_EQ(entry.content_length, 7u);
    EXPECT_EQ(segments(entry), "0+5 8192+2 ");
  }
}

TEST(StreamReader, Pax_1_0_SparseFile) {
  // 200 segments: the map takes two blocks.
  std::string map = "200\n";
  for (int i = 0; i < 200; ++i) map += std::to_string(i * 1000) + "\n1\n";
  map.resize((map.size() + 511) / 512 * 512, '\0');
  TestArchive archive;
  archive.pax({{"GNU.sparse.major", "1"},
               {"GNU.sparse.minor", "0"},
               {"GNU.sparse.name", "sparse"},
               {"GNU.sparse.realsize", "1000000"}});
  archive.file("GNUSparseFile.0/sparse", map + std::string(200, 'd')).file("next", "").end();
  const std::vector<Entry> entries = read_all(archive);
  ASSERT_THAT(entries, SizeIs(2));
  EXPECT_EQ(entries[0].path, "sparse");
  EXPECT_EQ(entries[0].size, 1000000u);
  EXPECT_EQ(entries[0].content_length, 200u);
  EXPECT_EQ(entries[0].content_offset, 3 * 512 + map.size());
  EXPECT_THAT(entries[0].segments, SizeIs(200));
}

TEST(StreamReader, OldGnuSparseFileWithExtensionBlocks) {
  auto pair = [](uint64_t offset, uint64_t length) {
    return TestArchive::octal(offset, 11) + '\0' + TestArchive::octal(length, 11) + '\0';
  };
  std::string map;
  for (uint64_t i = 0; i < 4; ++i) map += pair(i * 4096, 10);
  std::string extension;
  for (uint64_t i = 4; i < 6; ++i) extension += pair(i * 4096, 10);
  extension.resize(512, '\0');
  TestArchive archive;
  archive.header({.type = 'S',
                  .magic = std::string("ustar  \0", 8),
                  .patches = {{386, map}, {482, "\1"}, {483, TestArchive::octal(50000, 11)}}},
                 60);
  archive.raw(extension).content(std::string(60, 'd')).file("next", "").end();
  const std::vector<Entry> entries = read_all(archive);
  ASSERT_THAT(entries, SizeIs(2));
  EXPECT_EQ(entries[0].size, 50000u);
  EXPECT_EQ(segments(entries[0]), "0+10 4096+10 8192+10 12288+10 16384+10 20480+10 ");
  EXPECT_EQ(entries[0].content_offset, 1024u);
}

TEST(StreamReader, SparseMapsThatMakeNoSense) {
  auto with_map = [](const char* count, const char* map, const char* size) {
    return TestArchive()
        .pax({{"GNU.sparse.size", size}, {"GNU.sparse.numblocks", count}, {"GNU.sparse.map", map}})
        .file("f", "1234567");
  };
  expect_refused(with_map("2", "0,5,4,2", "10000"), "overlap");
  expect_refused(with_map("2", "8192,5,0,2", "10000"), "out of order");
  expect_refused(with_map("1", "9998,7", "10000"), "beyond the file");
  expect_refused(with_map("1", "0,6", "10000"), "the archive has 7");
  expect_refused(with_map("3", "0,5,8192,2", "10000"), "announced");
  expect_refused(with_map("1", "-1,7", "10000"), "out of range");
  expect_refused(with_map("1", "9223372036854775807,7", "10000"), "out of range");
  expect_refused(with_map("1", "0,7", "-5"), "size is malformed");
  expect_refused(TestArchive()
                     .pax({{"GNU.sparse.numblocks", "0"}, {"GNU.sparse.map", ","}})
                     .header({.type = '2', .link = "x"}),
                 "not a regular file");
}

TEST(StreamReader, PaxHeadersThatMakeNoSense) {
  for (const std::string_view text : {"5 a=b\n", "x a=b\n", "6 a=b", "6 a=bc\n", "6 abc\n\n",
                                      "99 a=b\n", "-1 a=b\n", "6 =ab\n", "1", "4 =\n"}) {
    const Outcome outcome =
        read(TestArchive().entry({.name = "pax", .type = 'x'}, text).file("f", "").bytes());
    EXPECT_TRUE(outcome.error.has_value()) << text;
  }
  expect_refused(TestArchive().pax({{"path", std::string("a\0b", 3)}}), "NUL");
  expect_refused(TestArchive().pax({{"SCHILY.xattr.", "v"}}).file("f", ""), "attributes");
  expect_refused(TestArchive().pax({{"SCHILY.xattr.a", std::string(65537, 'v')}}).file("f", ""),
                 "attributes");
  expect_refused(TestArchive().pax({{"GNU.sparse.numbytes", "5"}}).file("f", ""), "alternate");
  expect_refused(TestArchive().header({.type = 'x', .size = "00004000001"}), "1 MiB");
}

}  // namespace
}  // namespace pagein::tar
