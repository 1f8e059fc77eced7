// Checkpoints inside zstd frames.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "codec/codec_testing.h"
#include "codec/span_decoder.h"
#include "codec/zstd_checkpoint.h"
#include "codec/zstd_testing.h"

namespace pagein::codec {
namespace {

using testing::Content;
using ::testing::HasSubstr;
using testing::index_blob;
using testing::Indexed;
using testing::zstd_frame;
using testing::ZstdFrame;

constexpr uint32_t kAnyShare = 10000;

Indexed index_zstd(ByteView blob, uint32_t share = kAnyShare, size_t piece = 100'000,
                   uint32_t seed = 1) {
  return index_blob(blob, kMinSpacing, piece, seed, Encoding::zstd, share);
}

// Every span decodes from its checkpoint and its bytes alone.
size_t expect_spans(const Indexed& indexed, ByteView blob, const Bytes& data) {
  EXPECT_TRUE(indexed.status.ok()) << indexed.status.error().message;
  EXPECT_TRUE(indexed.sink.ordered);
  EXPECT_TRUE(indexed.sink.output == data);
  SpanStream stream;
  const auto& checkpoints = indexed.sink.checkpoints;
  size_t inside = 0;
  for (size_t i = 0; i < checkpoints.size(); ++i) {
    SCOPED_TRACE(i);
    const bool last = i + 1 == checkpoints.size();
    const uint64_t begin = checkpoints[i].uncompressed_offset;
    const uint64_t end = last ? data.size() : checkpoints[i + 1].uncompressed_offset;
    const uint64_t from = first_byte(checkpoints[i].compressed_bit);
    const uint64_t to =
        last ? indexed.summary.compressed_end : end_byte(checkpoints[i + 1].compressed_bit);
    inside += checkpoints[i].kind == CheckpointKind::frame_block ? 1 : 0;
    const Bytes wanted(data.begin() + static_cast<ptrdiff_t>(begin),
                       data.begin() + static_cast<ptrdiff_t>(end));
    const Bytes compressed(blob.begin() + static_cast<ptrdiff_t>(from),
                           blob.begin() + static_cast<ptrdiff_t>(to));
    Bytes out(wanted.size());
    const Status decoded = stream.decode(span_start(checkpoints[i]), compressed, out);
    EXPECT_TRUE(decoded.ok()) << decoded.error().message;
    EXPECT_TRUE(out == wanted);
    testing::CollectSink sink;
    EXPECT_TRUE(stream.start(span_start(checkpoints[i]), wanted.size()).ok());
    for (size_t at = 0; at < compressed.size(); at += 5003) {
      const size_t n = std::min<size_t>(5003, compressed.size() - at);
      EXPECT_TRUE(stream.feed(ByteView(compressed).subspan(at, n), sink).ok());
    }
    EXPECT_TRUE(stream.done());
    EXPECT_TRUE(sink.output == wanted);
  }
  EXPECT_EQ(indexed.summary.encoding, inside > 0 ? Encoding::zstd_blocks : Encoding::zstd);
  return inside;
}

Bytes long_content(size_t size, uint32_t seed) {
  // Repeats of what came long before, as a layer has them.
  Bytes data = testing::make_content(Content::mixed, size, seed);
  std::mt19937 random(seed);
  for (size_t at = size / 4; at + 3000 < size; at += 1 + random() % 20'000) {
    const size_t from = random() % at;
    const size_t n = std::min<size_t>(random() % 3000, at - from);
    std::copy_n(data.begin() + static_cast<ptrdiff_t>(from), n,
                data.begin() + static_cast<ptrdiff_t>(at));
  }
  return data;
}

void append(Bytes& to, const Bytes& from) { to.insert(to.end(), from.begin(), from.end()); }

TEST(ZstdBlocks, OneLongFrameOfEveryLevel) {
  const Bytes data = long_content(4'000'000, 1);
  for (const int level : {-5, 1, 3, 9, 15}) {
    SCOPED_TRACE(level);
    const Bytes blob = zstd_frame(data, {.level = level, .checksum = level & 1});
    const size_t inside = expect_spans(index_zstd(blob), blob, data);
    EXPECT_GE(inside, 2U);
  }
}

TEST(ZstdBlocks, WindowsOfEverySize) {
  const Bytes data = long_content(3'000'000, 2);
  for (const int log : {10, 17, 23, 24, 27}) {
    SCOPED_TRACE(log);
    const Bytes blob = zstd_frame(data, {.window_log = log, .content_size = 0, .stream = 1});
    const Indexed indexed = index_zstd(blob);
    expect_spans(indexed, blob, data);
    // A window that a node does not take: even the frame's start is a block.
    EXPECT_EQ(indexed.sink.checkpoints.front().kind,
              log > 23 ? CheckpointKind::frame_block : CheckpointKind::frame_start);
    EXPECT_TRUE(indexed.sink.checkpoints.front().payload.empty());
  }
  const Bytes blob = zstd_frame(data, {.window_log = 28, .content_size = 0, .stream = 1});
  const Indexed indexed = index_zstd(blob);
  ASSERT_FALSE(indexed.status.ok());
  EXPECT_EQ(indexed.status.error().code, Code::unsupported);
}

TEST(ZstdBlocks, LongFramesAmongShortAndSkippableOnes) {
  Bytes data;
  Bytes blob;
  uint32_t seed = 3;
  for (const size_t size : {2'500'000, 10'000, 20'000, 200'000, 1'800'000, 3, 2'200'000, 100}) {
    const Bytes part = long_content(size, seed++);
    append(data, part);
    append(blob, zstd_frame(part, {.checksum = static_cast<int>(seed % 2)}));
    append(blob, testing::skippable_frame(seed % 3 * 100));
    append(blob, zstd_frame({}));
  }
  const Indexed indexed = index_zstd(blob);
  EXPECT_GE(expect_spans(indexed, blob, data), 3U);
}

TEST(ZstdBlocks, HowTheBlobIsCutChangesNothing) {
  const Bytes data = long_content(4'000'000, 4);
  const Bytes blob = zstd_frame(data, {.checksum = 1});
  const Indexed whole = index_zstd(blob, kAnyShare, blob.size());
  ASSERT_GE(whole.sink.checkpoints.size(), 3U);
  for (const uint32_t seed : {1U, 2U}) {
    const Indexed pieces = index_zstd(blob, kAnyShare, 0, seed);
    ASSERT_TRUE(pieces.status.ok());
    ASSERT_EQ(pieces.sink.checkpoints.size(), whole.sink.checkpoints.size());
    for (size_t i = 0; i < whole.sink.checkpoints.size(); ++i) {
      EXPECT_EQ(pieces.sink.checkpoints[i].compressed_bit,
                whole.sink.checkpoints[i].compressed_bit);
      EXPECT_TRUE(pieces.sink.checkpoints[i].payload == whole.sink.checkpoints[i].payload);
    }
  }
}

TEST(ZstdBlocks, ASmallerShareHasLongerSpans) {
  const Bytes data = long_content(12'000'000, 5);
  const Bytes blob = zstd_frame(data);
  size_t before = SIZE_MAX;
  for (const uint32_t share : {10000U, 500U, 100U, 1U}) {
    const Indexed indexed = index_zstd(blob, share);
    ASSERT_TRUE(indexed.status.ok());
    EXPECT_LE(indexed.sink.checkpoints.size(), before);
    before = indexed.sink.checkpoints.size();
    EXPECT_LE(indexed.summary.payload_bytes * 10000 / blob.size(), share);
  }
  EXPECT_EQ(before, 1U);
}

TEST(ZstdBlocks, PredefinedTablesAreWrittenAsTheyAreRead) {
  for (const SequenceField field : kAllSequenceFields) {
    const SymbolCounts& counts = predefined_counts(field);
    const Bytes written = write_symbol_counts(counts);
    size_t used = 0;
    const auto read = read_symbol_counts(field, written, &used);
    ASSERT_TRUE(read.ok());
    EXPECT_EQ(used, written.size());
    EXPECT_EQ(read->log, counts.log);
    EXPECT_EQ(read->symbols, counts.symbols);
    EXPECT_EQ(read->counts, counts.counts);
  }
}

TEST(ZstdBlocks, DamagedBlocks) {
  const Bytes data = long_content(3'000'000, 6);
  const Bytes good = zstd_frame(data, {.checksum = 1});
  std::mt19937 random(7);
  for (int i = 0; i < 60; ++i) {
    Bytes blob = good;
    blob[random() % blob.size()] ^= static_cast<uint8_t>(1 + random() % 255);
    EXPECT_FALSE(index_zstd(blob).status.ok());
  }
}

TEST(ZstdBlocks, DamagedPayloadsAndSpans) {
  const Bytes data = long_content(3'000'000, 8);
  const Bytes blob = zstd_frame(data);
  const Indexed indexed = index_zstd(blob);
  ASSERT_GE(indexed.sink.checkpoints.size(), 2U);
  const Checkpoint& checkpoint = indexed.sink.checkpoints[1];
  ASSERT_EQ(checkpoint.kind, CheckpointKind::frame_block);
  ASSERT_FALSE(checkpoint.payload.empty());
  SpanStream stream;
  Bytes out(100'000);
  const ByteView compressed = ByteView(blob).subspan(first_byte(checkpoint.compressed_bit));
  ASSERT_TRUE(stream.decode(span_start(checkpoint), compressed, out).ok());

  SpanStart start = span_start(checkpoint);
  start.compressed_bit |= 1;
  EXPECT_FALSE(stream.decode(start, compressed, out).ok());
  start = span_start(checkpoint);
  EXPECT_FALSE(stream.decode(start, compressed.first(100), out).ok());
  EXPECT_EQ(stream.start(start, kMaxZstdSpan + 1).error().code, Code::unsupported);
  // More than the frame has.
  Bytes rest(data.size() - checkpoint.uncompressed_offset + 1);
  EXPECT_FALSE(stream.decode(start, compressed, rest).ok());
  for (const size_t size : {size_t{1}, size_t{20}, checkpoint.payload.size() - 1}) {
    start.payload = ByteView(checkpoint.payload).first(size);
    EXPECT_FALSE(stream.start(start, out.size()).ok()) << size;
  }
  std::mt19937 random(9);
  for (int i = 0; i < 200; ++i) {
    Bytes payload = checkpoint.payload;
    payload[random() % payload.size()] ^= static_cast<uint8_t>(1 + random() % 255);
    start.payload = payload;
    static_cast<void>(stream.decode(start, compressed, out));  // anything but harm
  }
}

TEST(ZstdBlocks, PayloadsThatLie) {
  const auto error = [](std::initializer_list<int> content) {
    Bytes payload = {0};
    for (const int byte : content) payload.push_back(static_cast<uint8_t>(byte));
    const auto made = make_zstd_dictionary(payload);
    return made.ok() ? std::string("fine") : made.error().message;
  };
  EXPECT_EQ(error({0, 1, 4, 8, 0}), "fine");
  EXPECT_EQ(error({0, 1, 4, 8, 1, 3, 2, 'a', 'b'}), "fine");
  EXPECT_THAT(error({16, 1, 4, 8, 0}), HasSubstr("flags"));
  EXPECT_THAT(error({1, 200, 4, 8, 0}), HasSubstr("needs 200"));
  EXPECT_THAT(error({0, 0, 4, 8, 0}), HasSubstr("offset"));
  EXPECT_THAT(error({0, 1, 4, 0x81, 0x80, 0x80, 0x40, 0}), HasSubstr("offset"));
  EXPECT_THAT(error({0, 1, 4, 8, 100, 3, 2, 'a', 'b'}), HasSubstr("runs"));
  EXPECT_THAT(error({0, 1, 4, 8, 1, 0x81, 0x80, 0x80, 0x40, 2, 'a', 'b'}), HasSubstr("window"));
  EXPECT_THAT(error({0, 1, 4, 8, 1, 1, 2, 'a', 'b'}), HasSubstr("before the checkpoint"));
  EXPECT_THAT(error({0, 1, 4, 8, 1, 3, 2, 'a', 'b', 'c'}), HasSubstr("behind"));
  EXPECT_THAT(error({0, 1, 4, 8, 2, 9, 8, 2, 2, 'a', 'b', 'c', 'd'}), HasSubstr("order"));
}

}  // namespace
}  // namespace pagein::codec
