#include "codec/chunk_encoder.h"

#include <gtest/gtest.h>

#include "base/endian.h"
#include "codec/codec_testing.h"
#include "codec/seek_table.h"
#include "codec/span_decoder.h"
#include "codec/zstd_testing.h"

namespace pagein::codec {
namespace {

using testing::Content;

class ChunkEncoders : public ::testing::TestWithParam<Encoding> {
 protected:
  static std::unique_ptr<ChunkEncoder> make() {
    return *make_chunk_encoder({.encoding = GetParam()});
  }
};

TEST_P(ChunkEncoders, EveryChunkIsASpan) {
  const Bytes data = testing::make_content(Content::mixed, 900'000, 1);
  const auto encoder = make();
  Bytes blob;
  Bytes chunk;
  std::vector<Checkpoint> chunks;
  for (size_t at = 0; at < data.size();) {
    const size_t n = std::min<size_t>(data.size() - at, (64 << 10) + at / 20);
    chunks.push_back({at, blob.size() * 8, chunk_kind(GetParam()), {}});
    ASSERT_TRUE(encoder->encode(ByteView(data).subspan(at, n), chunk).ok());
    blob.insert(blob.end(), chunk.begin(), chunk.end());
    at += n;
  }
  const auto indexed = testing::index_blob(blob, kMinSpacing, 0, 1, GetParam());
  ASSERT_TRUE(indexed.status.ok()) << indexed.status.error().message;
  EXPECT_TRUE(indexed.sink.output == data);
  EXPECT_EQ(indexed.summary.members, chunks.size());
  SpanStream stream;
  for (size_t i = 0; i < chunks.size(); ++i) {
    const bool last = i + 1 == chunks.size();
    const uint64_t begin = chunks[i].uncompressed_offset;
    const uint64_t end = last ? data.size() : chunks[i + 1].uncompressed_offset;
    const uint64_t from = first_byte(chunks[i].compressed_bit);
    const uint64_t to = last ? blob.size() : first_byte(chunks[i + 1].compressed_bit);
    Bytes out(end - begin);
    ASSERT_TRUE(
        stream.decode(span_start(chunks[i]), ByteView(blob).subspan(from, to - from), out).ok())
        << i;
    EXPECT_TRUE(std::equal(out.begin(), out.end(), data.begin() + static_cast<ptrdiff_t>(begin)));
  }
}

TEST_P(ChunkEncoders, WhatWasEncodedBeforeDoesNotMatter) {
  const auto used = make();
  Bytes out;
  for (uint32_t i = 0; i < 60; ++i) {
    const Bytes data =
        testing::make_content(static_cast<Content>(i % 5), (i * 48'271) % 400'000, i);
    ASSERT_TRUE(used->encode(data, out).ok());
    Bytes expected;
    ASSERT_TRUE(make()->encode(data, expected).ok());
    EXPECT_TRUE(out == expected) << i;
  }
}

TEST_P(ChunkEncoders, AnEmptyChunkIsALayer) {
  Bytes out;
  ASSERT_TRUE(make()->encode({}, out).ok());
  EXPECT_EQ(detect_encoding(out), GetParam());
  const auto indexed = testing::index_blob(out, kMinSpacing, 0, 1, GetParam());
  EXPECT_TRUE(indexed.status.ok());
  EXPECT_EQ(indexed.summary.uncompressed_size, 0U);
}

INSTANTIATE_TEST_SUITE_P(All, ChunkEncoders, ::testing::Values(Encoding::gzip, Encoding::zstd),
                         [](const auto& test) {
                           return test.param == Encoding::gzip ? "gzip" : "zstd";
                         });

TEST(ChunkEncoder, Options) {
  EXPECT_EQ(make_chunk_encoder({.encoding = Encoding::identity}).error().code,
            Code::invalid_argument);
  EXPECT_EQ(make_chunk_encoder({.encoding = Encoding::gzip, .level = 13}).error().code,
            Code::invalid_argument);
  EXPECT_EQ(make_chunk_encoder({.encoding = Encoding::zstd, .level = -1}).error().code,
            Code::invalid_argument);
  const auto fast = make_chunk_encoder({.encoding = Encoding::zstd, .level = 1});
  const auto usual = make_chunk_encoder({.encoding = Encoding::zstd});
  EXPECT_NE((*fast)->settings(), (*usual)->settings());
}

// Worked by hand after the format's description.
TEST(SeekTable, Layout) {
  SeekTable table;
  ASSERT_TRUE(table.add(0x1234, 0x40000).ok());
  ASSERT_TRUE(table.add(7, 9).ok());
  EXPECT_EQ(table.add(1, uint64_t{1} << 40).error().code, Code::exhausted);
  const Bytes expected = {0x5e, 0x2a, 0x4d, 0x18, 25, 0,    0,    0,  // skippable, 25 bytes
                          0x34, 0x12, 0,    0,    0,  0,    4,    0,    7,
                          0,    0,    0,    9,    0,  0,    0,  // frames
                          2,    0,    0,    0,    0,  0xb1, 0xea, 0x92, 0x8f};
  EXPECT_EQ(table.finish(), expected);
}

}  // namespace
}  // namespace pagein::codec
