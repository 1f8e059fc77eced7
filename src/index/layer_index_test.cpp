#include "index/layer_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include "base/byte_reader.h"
#include "index/file_table_builder.h"
#include "index/file_table_format.h"
#include "index/layer_index_builder.h"
#include "index/layer_index_format.h"
#include "tar/test_archive.h"

namespace pagein::index {
namespace {

using testing::HasSubstr;

// Everything that an index can hold, in a few entries.
std::string sample_tar() {
  tar::TestArchive archive;
  archive.directory("./").directory("usr/").pax({{"mtime", "1700000000.5"},
                                                 {"SCHILY.xattr.security.capability", "\1\2"},
                                                 {"SCHILY.xattr.user.empty", ""}});
  archive.file("usr/ping", std::string(5000, 'p')).file("usr/a", "hello");
  archive.header({.name = "usr/link", .type = '2', .link = "../etc/x"});
  archive.header({.name = "usr/hard", .type = '1', .link = "./usr/a"});
  archive.header({.name = "dev/null", .type = '3', .dev_major = "0000001", .dev_minor = "0000003"});
  archive.header({.name = "fifo", .type = '6', .uid = "0000000"});
  archive.file("etc/.wh.gone", "").file("etc/.wh..wh..opq", "");
  archive.pax({{"GNU.sparse.name", "sparse"},
               {"GNU.sparse.size", "100000"},
               {"GNU.sparse.numblocks", "2"},
               {"GNU.sparse.map", "0,5,81920,2"}});
  archive.file("GNUSparseFile.0/sparse", "1234567").end();
  return archive.bytes();
}

FileTable table_of(std::string_view tar) {
  FileTableBuilder builder;
  tar::StreamReader reader(builder);
  Status status = reader.feed(as_bytes(tar));
  if (status.ok()) status = reader.finish();
  if (!status.ok()) ADD_FAILURE() << status.error().message;
  return builder.finish();
}

Sha256Bytes digest(uint8_t fill) {
  Sha256Bytes bytes;
  bytes.fill(fill);
  return bytes;
}

LayerFacts gzip_facts(uint64_t tar_size) {
  return {.encoding = codec::Encoding::gzip,
          .layer_digest = oci::Digest(digest(1)),
          .layer_size = 5000,
          .diff_id = oci::Digest(digest(2)),
          .tar_size = tar_size,
          .span_spacing = 4096};
}

void add_gzip_spans(LayerIndexBuilder& builder) {
  using codec::CheckpointKind;
  builder.add_span(0, {CheckpointKind::member_start, 0}, {}, digest(3));
  builder.add_span(4096, {CheckpointKind::block_boundary, 8003}, as_bytes("window"), digest(4));
  builder.add_span(8192, {CheckpointKind::mid_block, 16001}, as_bytes("block, window"), digest(5));
}

EncodedIndex sample_index() {
  const std::string tar = sample_tar();
  LayerIndexBuilder builder;
  add_gzip_spans(builder);
  return builder.finish(gzip_facts(tar.size()), table_of(tar)).value();
}

void expect_equal(const FileTable& a, const FileTable& b) {
  ASSERT_EQ(a.size(), b.size());
  for (EntryId id = 0; id < a.size(); ++id) {
    const Entry& x = a[id];
    const Entry& y = b[id];
    SCOPED_TRACE(a.path(id));
    EXPECT_EQ(x.type, y.type);
    EXPECT_EQ(x.sparse, y.sparse);
    EXPECT_EQ(x.mode, y.mode);
    EXPECT_EQ(x.uid, y.uid);
    EXPECT_EQ(x.gid, y.gid);
    EXPECT_EQ(x.parent, y.parent);
    EXPECT_EQ(x.mtime_sec, y.mtime_sec);
    EXPECT_EQ(x.mtime_nsec, y.mtime_nsec);
    EXPECT_EQ(x.size, y.size);
    EXPECT_EQ(x.dev_major, y.dev_major);
    EXPECT_EQ(x.dev_minor, y.dev_minor);
    EXPECT_EQ(x.tar_offset, y.tar_offset);
    EXPECT_EQ(x.tar_length, y.tar_length);
    EXPECT_EQ(a.path(id), b.path(id));
    EXPECT_EQ(a.target(x), b.target(y));
    ASSERT_EQ(x.xattr_count, y.xattr_count);
    for (size_t i = 0; i < x.xattr_count; ++i) {
      EXPECT_EQ(a.xattr(x, i).name, b.xattr(y, i).name);
      EXPECT_EQ(a.xattr(x, i).value, b.xattr(y, i).value);
    }
    ASSERT_EQ(a.segments(x).size(), b.segments(y).size());
    for (size_t i = 0; i < a.segments(x).size(); ++i) {
      EXPECT_EQ(a.segments(x)[i].file_offset, b.segments(y)[i].file_offset);
      EXPECT_EQ(a.segments(x)[i].length, b.segments(y)[i].length);
    }
  }
}

TEST(LayerIndex, RoundTrip) {
  const std::string tar = sample_tar();
  const EncodedIndex encoded = sample_index();
  const auto parsed = parse_head(encoded.head);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  const LayerIndex& index = **parsed;
  expect_equal(index.files, table_of(tar));
  EXPECT_EQ(index.encoding, codec::Encoding::gzip);
  EXPECT_EQ(index.layer_digest, oci::Digest(digest(1)));
  EXPECT_EQ(index.diff_id, oci::Digest(digest(2)));
  EXPECT_EQ(index.layer_size, 5000u);
  EXPECT_EQ(index.tar_size, tar.size());
  EXPECT_EQ(index.span_spacing, 4096u);
  EXPECT_EQ(index.head_size, encoded.head.size());
  EXPECT_EQ(index.checkpoints_size, encoded.checkpoints.size());
  ASSERT_EQ(index.spans.size(), 3u);
  EXPECT_EQ(index.spans[2].start.compressed_bit, 16001u);
  EXPECT_EQ(index.spans[2].start.kind, codec::CheckpointKind::mid_block);
  EXPECT_EQ(index.spans[2].digest, digest(5));
  EXPECT_EQ(as_text(ByteView(encoded.checkpoints)
                        .subspan(index.spans[2].payload_offset, index.spans[2].payload_size)),
            "block, window");
  EXPECT_EQ(index.span_end(0), 4096u);
  EXPECT_EQ(index.span_end(2), tar.size());
  EXPECT_EQ(index.span_at(0), 0u);
  EXPECT_EQ(index.span_at(4095), 0u);
  EXPECT_EQ(index.span_at(4096), 1u);
  EXPECT_EQ(index.span_at(tar.size() - 1), 2u);
  EXPECT_GT(index.layout.data_size(), 0u);
}

TEST(LayerIndex, WritingWhatWasParsedGivesTheSame) {
  const EncodedIndex encoded = sample_index();
  const auto index = parse_head(encoded.head).value();
  LayerIndexBuilder builder;
  add_gzip_spans(builder);
  EXPECT_EQ(builder.finish(gzip_facts(index->tar_size), index->files).value().head, encoded.head);
}

// The bytes of this version of the format. If this fails without a reason, the
// format changed: raise the version, and change the document with it.
TEST(LayerIndex, Golden) {
  const Bytes files = write_file_table(table_of(sample_tar()));
  EXPECT_EQ(oci::Digest::of(files).hex(),
            "ca2d1617ab009a47a3c86a5fa0582831a06fb6dcac44b438baaa088d77a4c6c3");
  if (ZSTD_versionNumber() != 10504) {
    GTEST_SKIP() << "compressed bytes are those of zstd 1.5.4, this is " << ZSTD_versionString();
  }
  EXPECT_EQ(oci::Digest::of(sample_index().head).hex(),
            "9aebcba3af0832e953ecc734c77ce7fad83327ee9a1590b5165f6d1fc75ea5ae");
}

TEST(LayerIndex, EmptyTar) {
  LayerFacts facts = gzip_facts(0);
  facts.layer_size = 20;
  const EncodedIndex encoded =
      LayerIndexBuilder().finish(facts, FileTableBuilder().finish()).value();
  const auto index = parse_head(encoded.head).value();
  EXPECT_TRUE(index->spans.empty());
  EXPECT_EQ(index->files.size(), 1u);
  EXPECT_EQ(index->checkpoints_size, 0u);
}

TEST(LayerIndex, BuilderRefusesSpansThatDoNotFit) {
  const FileTable files = FileTableBuilder().finish();
  using codec::CheckpointKind;
  auto code = [&](uint64_t begin, codec::StartPoint start, std::string_view payload) {
    LayerIndexBuilder builder;
    builder.add_span(0, {CheckpointKind::member_start, 0}, {}, digest(3));
    builder.add_span(begin, start, as_bytes(payload), digest(3));
    const auto result = builder.finish(gzip_facts(10000), files);
    return result.ok() ? "fine" : result.error().message;
  };
  EXPECT_EQ(code(9999, {CheckpointKind::block_boundary, 39999}, "w"), "fine");
  EXPECT_THAT(code(0, {CheckpointKind::block_boundary, 9}, "w"), HasSubstr("order"));
  EXPECT_THAT(code(10000, {CheckpointKind::block_boundary, 9}, "w"), HasSubstr("range"));
  EXPECT_THAT(code(5, {CheckpointKind::block_boundary, 0}, "w"), HasSubstr("order"));
  EXPECT_THAT(code(5, {CheckpointKind::block_boundary, 40000}, "w"), HasSubstr("range"));
  EXPECT_THAT(code(5, {CheckpointKind::identity, 40}, ""), HasSubstr("encoding"));
  EXPECT_THAT(code(5, {CheckpointKind::member_start, 40}, "w"), HasSubstr("payload"));
  EXPECT_THAT(code(5, {CheckpointKind::mid_block, 40}, std::string(50000, 'w')),
              HasSubstr("payload"));
  EXPECT_FALSE(LayerIndexBuilder().finish(gzip_facts(1), files).ok()) << "no span";
}

TEST(LayerIndex, ZstdSpansAreFrames) {
  using codec::CheckpointKind;
  LayerFacts facts = gzip_facts(5000);
  facts.encoding = codec::Encoding::zstd;
  const auto outcome = [&](CheckpointKind kind, uint64_t bit, std::string_view payload) {
    LayerIndexBuilder builder;
    builder.add_span(0, {CheckpointKind::frame_start, 0}, {}, digest(1));
    builder.add_span(4096, {kind, bit}, as_bytes(payload), digest(1));
    const auto encoded = builder.finish(facts, FileTableBuilder().finish());
    if (!encoded.ok()) return encoded.error().message;
    const auto index = parse_head(encoded->head).value();
    EXPECT_EQ(index->encoding, facts.encoding);
    EXPECT_EQ(index->spans[1].start, (codec::StartPoint{kind, bit}));
    return std::string("fine");
  };
  EXPECT_EQ(outcome(CheckpointKind::frame_start, 800, ""), "fine");
  EXPECT_THAT(outcome(CheckpointKind::frame_start, 801, ""), HasSubstr("start"));
  EXPECT_THAT(outcome(CheckpointKind::frame_start, 800, "w"), HasSubstr("payload"));
  EXPECT_THAT(outcome(CheckpointKind::member_start, 800, ""), HasSubstr("encoding"));
  // Blocks inside frames are of another encoding, which older readers refuse.
  EXPECT_THAT(outcome(CheckpointKind::frame_block, 800, ""), HasSubstr("encoding"));
  facts.encoding = codec::Encoding::zstd_blocks;
  EXPECT_EQ(outcome(CheckpointKind::frame_start, 800, ""), "fine");
  EXPECT_EQ(outcome(CheckpointKind::frame_block, 800, ""), "fine");
  EXPECT_EQ(outcome(CheckpointKind::frame_block, 800, std::string(100'000, 'w')), "fine");
  EXPECT_THAT(outcome(CheckpointKind::frame_block, 801, ""), HasSubstr("start"));
  EXPECT_THAT(
      outcome(CheckpointKind::frame_block, 800, std::string(codec::kMaxZstdPayloadBytes + 1, 'w')),
      HasSubstr("payload"));
  EXPECT_THAT(outcome(CheckpointKind::block_boundary, 800, ""), HasSubstr("encoding"));
  EXPECT_THAT(outcome(static_cast<CheckpointKind>(6), 800, ""), HasSubstr("encoding"));
}

TEST(LayerIndex, PlainTarSpansAreAtTheirOffsets) {
  LayerFacts facts = gzip_facts(5000);
  facts.encoding = codec::Encoding::identity;
  for (const uint64_t bit : {4096 * 8, 4096 * 8 + 8, 4096 * 8 + 1}) {
    LayerIndexBuilder builder;
    builder.add_span(0, {codec::CheckpointKind::identity, 0}, {}, digest(1));
    builder.add_span(4096, {codec::CheckpointKind::identity, bit}, {}, digest(1));
    EXPECT_EQ(builder.finish(facts, FileTableBuilder().finish()).ok(), bit == 4096 * 8) << bit;
  }
}

TEST(LayerIndex, EveryCutAndEveryFlippedByteIsSurvived) {
  const Bytes head = sample_index().head;
  for (size_t size = 0; size < head.size(); ++size) {
    EXPECT_FALSE(parse_head(ByteView(head).first(size)).ok()) << size;
  }
  Bytes longer = head;
  longer.push_back(0);
  EXPECT_FALSE(parse_head(longer).ok());
  for (size_t i = 0; i < head.size(); ++i) {
    Bytes flipped = head;
    flipped[i] ^= 0x10;
    (void)parse_head(flipped);
  }
}

TEST(LayerIndex, VersionsAndEncodingsToCome) {
  Bytes head = sample_index().head;
  head[offsetof(FixedHeader, version)] = 2;
  EXPECT_EQ(parse_head(head).error().code, Code::unsupported);
  head = sample_index().head;
  head[offsetof(FixedHeader, encoding)] = 9;
  EXPECT_EQ(parse_head(head).error().code, Code::unsupported);
  head = sample_index().head;
  head[offsetof(FixedHeader, reserved)] = 1;
  EXPECT_EQ(parse_head(head).error().code, Code::corrupt_input);
}

}  // namespace
}  // namespace pagein::index
