// zstd layers: indexer and span decoder together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "codec/codec_testing.h"
#include "codec/span_decoder.h"
#include "codec/zstd_testing.h"

namespace pagein::codec {
namespace {

using testing::Content;
using ::testing::HasSubstr;
using testing::index_blob;
using testing::Indexed;
using testing::skippable_frame;
using testing::zstd_frame;
using testing::zstd_frames;

Indexed index_zstd(ByteView blob, size_t piece, uint32_t seed = 1) {
  return index_blob(blob, kMinSpacing, piece, seed, Encoding::zstd);
}

// Every span from its checkpoint alone, at once and in small pieces.
void expect_spans(const Indexed& indexed, const Bytes& blob, const Bytes& data) {
  SpanStream stream;
  const auto& checkpoints = indexed.sink.checkpoints;
  for (size_t i = 0; i < checkpoints.size(); ++i) {
    SCOPED_TRACE(i);
    const bool last = i + 1 == checkpoints.size();
    const auto begin = static_cast<ptrdiff_t>(checkpoints[i].uncompressed_offset);
    const auto end =
        static_cast<ptrdiff_t>(last ? data.size() : checkpoints[i + 1].uncompressed_offset);
    const uint64_t from = first_byte(checkpoints[i].compressed_bit);
    const uint64_t to =
        last ? indexed.summary.compressed_end : end_byte(checkpoints[i + 1].compressed_bit);
    const Bytes wanted(data.begin() + begin, data.begin() + end);
    const Bytes compressed(blob.begin() + static_cast<ptrdiff_t>(from),
                           blob.begin() + static_cast<ptrdiff_t>(to));
    Bytes out(wanted.size());
    const Status decoded = stream.decode(span_start(checkpoints[i]), compressed, out);
    ASSERT_TRUE(decoded.ok()) << decoded.error().message;
    EXPECT_TRUE(out == wanted);
    testing::CollectSink sink;
    ASSERT_TRUE(stream.start(span_start(checkpoints[i]), wanted.size()).ok());
    for (size_t at = 0; at < compressed.size(); at += 777) {
      const size_t n = std::min<size_t>(777, compressed.size() - at);
      ASSERT_TRUE(stream.feed(ByteView(compressed).subspan(at, n), sink).ok());
    }
    EXPECT_TRUE(stream.done());
    EXPECT_TRUE(sink.output == wanted);
  }
}

// The same, and that each goes on to the end.
void expect_runs_of_frames(const Indexed& indexed, const Bytes& blob, const Bytes& data) {
  SpanStream stream;
  for (const Checkpoint& checkpoint : indexed.sink.checkpoints) {
    EXPECT_EQ(checkpoint.kind, CheckpointKind::frame_start);
    EXPECT_TRUE(checkpoint.payload.empty());
    const uint64_t begin = checkpoint.uncompressed_offset;
    testing::CollectSink sink;
    ASSERT_TRUE(stream.start(span_start(checkpoint), data.size() - begin).ok());
    for (size_t at = first_byte(checkpoint.compressed_bit); at < blob.size(); at += 777) {
      const size_t n = std::min<size_t>(777, blob.size() - at);
      ASSERT_TRUE(stream.feed(ByteView(blob).subspan(at, n), sink).ok());
    }
    EXPECT_TRUE(stream.done());
    EXPECT_TRUE(std::equal(sink.output.begin(), sink.output.end(),
                           data.begin() + static_cast<ptrdiff_t>(begin), data.end()));
  }
}

TEST(Zstd, SpansOfFrames) {
  const Bytes data = testing::make_content(Content::mixed, 1'000'003, 5);
  for (const size_t step : {5'000UL, 33'000UL, 64UL << 10, 90'000UL}) {
    SCOPED_TRACE(step);
    const Bytes blob = zstd_frames(data, step, {.checksum = 1});
    const Indexed whole = index_zstd(blob, blob.size());
    ASSERT_TRUE(whole.status.ok()) << whole.status.error().message;
    EXPECT_TRUE(whole.sink.ordered);
    EXPECT_TRUE(whole.sink.output == data);
    EXPECT_EQ(whole.summary.members, (data.size() + step - 1) / step);
    EXPECT_EQ(whole.summary.compressed_size, blob.size());
    EXPECT_EQ(whole.summary.encoding, Encoding::zstd);
    expect_spans(whole, blob, data);
    expect_runs_of_frames(whole, blob, data);
    for (const uint32_t seed : {2U, 3U}) {
      const Indexed pieces = index_zstd(blob, 0, seed);
      ASSERT_TRUE(pieces.status.ok());
      EXPECT_TRUE(pieces.sink.output == data);
      ASSERT_EQ(pieces.sink.checkpoints.size(), whole.sink.checkpoints.size());
      for (size_t i = 0; i < whole.sink.checkpoints.size(); ++i) {
        EXPECT_EQ(pieces.sink.checkpoints[i].compressed_bit,
                  whole.sink.checkpoints[i].compressed_bit);
      }
    }
  }
}

TEST(Zstd, ADecoderTakesFramesOfAnyLength) {
  const Bytes data = testing::make_content(Content::text, 700'000, 6);
  const Bytes blob = zstd_frame(data, {.content_size = 0});
  class Sink final : public OutputSink {
   public:
    Status on_output(ByteView piece) override {
      out.insert(out.end(), piece.begin(), piece.end());
      return {};
    }
    Bytes out;
  } sink;
  const auto decoder = make_decoder(Encoding::zstd, sink);
  ASSERT_TRUE(decoder->feed(blob).ok());
  const auto summary = decoder->finish();
  ASSERT_TRUE(summary.ok());
  EXPECT_EQ(summary->uncompressed_size, data.size());
  EXPECT_TRUE(sink.out == data);
}

TEST(Zstd, BrokenLayers) {
  const Bytes data = testing::make_content(Content::text, 50'000, 7);
  Bytes blob = zstd_frame(data, {.checksum = 1});
  const auto error = [](const Bytes& bytes) {
    const Indexed indexed = index_zstd(bytes, bytes.size());
    return indexed.status.ok() ? Error(Code::internal, "it was accepted") : indexed.status.error();
  };
  for (const size_t size : {blob.size() - 1, blob.size() - 5, size_t{5}, size_t{2}}) {
    EXPECT_EQ(error(Bytes(blob.begin(), blob.begin() + static_cast<ptrdiff_t>(size))).code,
              Code::corrupt_input);
  }
  Bytes tail = blob;
  tail.insert(tail.end(), {0, 0, 0, 0});  // no padding in zstd
  EXPECT_EQ(error(tail).code, Code::corrupt_input);
  // An older format's magic number (v0.7).
  EXPECT_EQ(error({0x27, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0}).code, Code::corrupt_input);
  blob.back() ^= 1;
  EXPECT_EQ(error(blob).code, Code::corrupt_input);
}

TEST(Zstd, EmptyAndSkippableFramesYieldNothing) {
  Bytes blob = skippable_frame(70'000);
  const Bytes empty = zstd_frame({});
  blob.insert(blob.end(), empty.begin(), empty.end());
  const Indexed indexed = index_zstd(blob, 3);
  ASSERT_TRUE(indexed.status.ok()) << indexed.status.error().message;
  EXPECT_TRUE(indexed.sink.checkpoints.empty());
  EXPECT_EQ(indexed.summary.uncompressed_size, 0U);
}

TEST(Zstd, ANodeRefusesLongWindows) {
  SpanStream stream;
  testing::CollectSink sink;
  for (const auto& [log, good] : {std::pair{23, true}, std::pair{24, false}}) {
    // RFC 8878, section 3.1.1: no content size; window 1 << log; a last raw block of 2 bytes.
    const auto window = static_cast<uint8_t>((log - 10) << 3);
    const Bytes blob = {0x28, 0xb5, 0x2f, 0xfd, 0, window, 2 << 3 | 1, 0, 0, 'h', 'i'};
    ASSERT_TRUE(stream.start({CheckpointKind::frame_start, 0}, 2).ok());
    const Status status = stream.feed(blob, sink);
    EXPECT_EQ(status.ok(), good) << log;
    if (!good) {
      EXPECT_EQ(status.error().code, Code::unsupported);
    }
  }
}

TEST(Zstd, ASpanThatEndsEarly) {
  const Bytes data = testing::make_content(Content::text, 50'000, 9);
  const Bytes blob = zstd_frame(data);
  SpanStream stream;
  Bytes out(data.size());
  EXPECT_FALSE(stream.decode({CheckpointKind::frame_start, 0}, ByteView(blob).first(9), out).ok());
  EXPECT_FALSE(stream.decode({CheckpointKind::frame_start, 3}, blob, out).ok());
  EXPECT_FALSE(stream.decode({CheckpointKind::frame_start, 0, as_bytes("window")}, blob, out).ok());
  ASSERT_TRUE(stream.decode({CheckpointKind::frame_start, 0}, blob, out).ok());
  EXPECT_TRUE(out == data);
}

}  // namespace
}  // namespace pagein::codec
