// Indexer and span decoder together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/sha256.h"
#include "codec/checkpoint_payload.h"
#include "codec/codec_testing.h"
#include "codec/member_decoder.h"
#include "codec/span_decoder.h"

namespace pagein::codec {
namespace {

using testing::Content;
using ::testing::HasSubstr;
using testing::index_blob;
using testing::Indexed;

Bytes concat(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

uint64_t span_end(const Indexed& indexed, size_t i) {
  return i + 1 < indexed.sink.checkpoints.size()
             ? indexed.sink.checkpoints[i + 1].uncompressed_offset
             : indexed.summary.uncompressed_size;
}

// The compressed bytes of spans first..last, in memory of exactly that size.
Bytes compressed_of(const Indexed& indexed, ByteView blob, size_t first, size_t last) {
  const auto& checkpoints = indexed.sink.checkpoints;
  const uint64_t begin = first_byte(checkpoints[first].compressed_bit);
  const uint64_t end = last + 1 < checkpoints.size()
                           ? end_byte(checkpoints[last + 1].compressed_bit)
                           : indexed.summary.compressed_end;
  Bytes out(blob.begin() + static_cast<ptrdiff_t>(begin),
            blob.begin() + static_cast<ptrdiff_t>(end));
  out.shrink_to_fit();
  return out;
}

// Feeds zlib from a block boundary: the bits of the first byte, then the rest.
Bytes zlib_from(const Checkpoint& checkpoint, ByteView window, ByteView compressed, size_t length) {
  z_stream z{};
  inflateInit2(&z, -15);
  const unsigned skip = checkpoint.compressed_bit % 8;
  size_t at = 0;
  if (skip != 0) inflatePrime(&z, static_cast<int>(8 - skip), compressed[at++] >> skip);
  inflateSetDictionary(&z, window.data(), static_cast<uInt>(window.size()));
  Bytes out(length);
  z.next_in = const_cast<Bytef*>(compressed.data() + at);
  z.avail_in = static_cast<uInt>(compressed.size() - at);
  z.next_out = out.data();
  z.avail_out = static_cast<uInt>(length);
  inflate(&z, Z_SYNC_FLUSH);
  out.resize(length - z.avail_out);
  inflateEnd(&z);
  return out;
}

// The 32 KiB that a checkpoint's payload stands for, zeros where nothing is
// referred to.
Bytes window_of(const Checkpoint& checkpoint, ByteView compressed) {
  PayloadUnpacker unpacker;
  CheckpointPayload payload;
  EXPECT_TRUE(unpacker.unpack(checkpoint.kind, checkpoint.payload, payload).ok());
  auto inflater = std::make_unique<Inflater>();
  OutputBuffer out(2 * kWindowBytes);
  out.next += kWindowBytes;
  out.references.replay(out.next, payload.window);
  BitInput in;
  in.set_piece(compressed);
  in.fill(8);
  in.drop(checkpoint.compressed_bit % 8);
  for (;;) {
    auto event = inflater->run(in, out, out.limit_end);
    if (!event.ok() || *event != Inflater::Event::block_boundary) break;
  }
  return Bytes(out.data(), out.data() + kWindowBytes);
}

void expect_spans(const Indexed& indexed, ByteView blob, ByteView data) {
  SpanStream stream;
  const auto& checkpoints = indexed.sink.checkpoints;
  for (size_t i = 0; i < checkpoints.size(); ++i) {
    const uint64_t begin = checkpoints[i].uncompressed_offset;
    const ByteView expected = data.subspan(begin, span_end(indexed, i) - begin);
    const Bytes compressed = compressed_of(indexed, blob, i, i);
    Bytes out(expected.size());
    const Status status = stream.decode(span_start(checkpoints[i]), compressed, out);
    ASSERT_TRUE(status.ok()) << "span " << i << ": " << status.error().message;
    ASSERT_TRUE(std::equal(out.begin(), out.end(), expected.begin()))
        << "span " << i << " kind " << static_cast<int>(checkpoints[i].kind) << " at " << begin
        << " first difference at "
        << std::mismatch(out.begin(), out.end(), expected.begin()).first - out.begin();
    if (checkpoints[i].kind == CheckpointKind::block_boundary) {
      const Bytes window = window_of(checkpoints[i], compressed);
      const Bytes by_zlib = zlib_from(checkpoints[i], window, compressed, expected.size());
      // zlib stops where a member ends.
      ASSERT_TRUE(std::equal(by_zlib.begin(), by_zlib.end(), expected.begin())) << "span " << i;
      if (indexed.summary.members == 1) {
        EXPECT_EQ(by_zlib.size(), expected.size());
      }
    }
  }
}

Indexed expect_good(const Bytes& blob, const Bytes& data, uint64_t spacing = kMinSpacing) {
  Indexed whole = index_blob(blob, spacing, blob.size());
  EXPECT_TRUE(whole.status.ok()) << whole.status.error().message;
  if (!whole.status.ok()) return whole;
  EXPECT_TRUE(whole.sink.ordered);
  EXPECT_TRUE(whole.sink.output == data);
  EXPECT_EQ(whole.summary.uncompressed_size, data.size());
  EXPECT_EQ(whole.summary.compressed_size, blob.size());
  EXPECT_EQ(whole.summary.checkpoints, whole.sink.checkpoints.size());
  for (size_t i = 0; i < whole.sink.checkpoints.size(); ++i) {
    EXPECT_LE(span_end(whole, i) - whole.sink.checkpoints[i].uncompressed_offset,
              max_span_bytes(spacing));
    EXPECT_LE(whole.sink.checkpoints[i].payload.size(), kMaxPayloadBytes);
  }
  expect_spans(whole, blob, data);

  const Indexed pieces = index_blob(blob, spacing, 0, static_cast<uint32_t>(data.size()));
  EXPECT_TRUE(pieces.status.ok());
  EXPECT_TRUE(pieces.sink.ordered);
  EXPECT_TRUE(pieces.sink.output == data);
  EXPECT_EQ(pieces.sink.checkpoints.size(), whole.sink.checkpoints.size());
  for (size_t i = 0; i < std::min(pieces.sink.checkpoints.size(), whole.sink.checkpoints.size());
       ++i) {
    const Checkpoint& a = whole.sink.checkpoints[i];
    const Checkpoint& b = pieces.sink.checkpoints[i];
    EXPECT_TRUE(a.compressed_bit == b.compressed_bit && a.kind == b.kind && a.payload == b.payload)
        << "checkpoint " << i << " depends on how the blob was cut";
  }
  return whole;
}

size_t count_kind(const Indexed& indexed, CheckpointKind kind) {
  size_t n = 0;
  for (const Checkpoint& c : indexed.sink.checkpoints) n += c.kind == kind ? 1 : 0;
  return n;
}

TEST(Spans, OfEveryKindOfContentAndLevel) {
  for (const Content content :
       {Content::text, Content::random, Content::zeros, Content::records, Content::mixed}) {
    const Bytes data = testing::make_content(content, 900000, 31);
    for (const int level : {0, 1, 6}) {
      SCOPED_TRACE("content " + std::to_string(static_cast<int>(content)) + " level " +
                   std::to_string(level));
      expect_good(testing::compress(data, {.level = level}), data);
    }
  }
}

TEST(Spans, StrategiesAndLibdeflate) {
  const Bytes data = testing::make_content(Content::mixed, 1200000, 37);
  for (const int strategy : {Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED}) {
    expect_good(testing::compress(data, {.strategy = strategy, .memory = 9}), data);
  }
  for (const int level : {0, 3, 9}) expect_good(testing::compress_libdeflate(data, level), data);
}

TEST(Spans, InsideLongBlocks) {
  // Zeros make blocks of many megabytes.
  Bytes data = testing::make_content(Content::zeros, 3000000, 1);
  std::mt19937 random(41);
  testing::append(data, Content::text, 500000, random);
  const Indexed zeros = expect_good(testing::compress(data, {.memory = 9}), data);
  EXPECT_GT(count_kind(zeros, CheckpointKind::mid_block), 10U);
  // One block for all, as zlib never makes it but others do.
  const Bytes text = testing::make_content(Content::text, 800000, 43);
  const Indexed fixed =
      expect_good(testing::compress(text, {.strategy = Z_FIXED, .memory = 9}), text);
  EXPECT_GT(fixed.sink.checkpoints.size(), 5U);
}

TEST(Spans, InsideStoredBlocks) {
  // Blocks of 65535 bytes and a minimal spacing leave no boundary in reach
  // only if the first is late; at least the spans must be right.
  const Bytes data = testing::make_content(Content::random, 1000000, 47);
  const Indexed indexed = expect_good(testing::compress(data, {.level = 0, .memory = 9}), data);
  EXPECT_EQ(indexed.summary.payload_bytes, 0U);
}

TEST(Spans, SparseWindowsAreSmallAndOnlyWhereNeeded) {
  const Bytes data = testing::make_content(Content::text, 4000000, 53);
  const Indexed indexed = expect_good(testing::compress(data, {}), data, 256 << 10);
  EXPECT_EQ(indexed.sink.checkpoints[0].kind, CheckpointKind::member_start);
  EXPECT_TRUE(indexed.sink.checkpoints[0].payload.empty());
  EXPECT_GE(indexed.sink.checkpoints.size(), 12U);
  EXPECT_LE(indexed.sink.checkpoints.size(), 20U);
  // Nothing is referred to behind a full flush.
  const Bytes flushed = testing::compress(data, {.flush = Z_FULL_FLUSH, .flush_every = 60000});
  EXPECT_EQ(expect_good(flushed, data, 256 << 10).summary.payload_bytes, 0U);
}

// Text that deflates well: what is referred to of a window is much for the few
// compressed bytes of a span.
TEST(Spans, AreLongerWhereTheirPayloadsAreDear) {
  const Bytes data = testing::make_content(Content::text, 16 << 20, 59);
  const uint64_t spacing = 256 << 10;
  const Indexed indexed = expect_good(testing::compress(data, {}), data, spacing);
  const size_t spans = indexed.sink.checkpoints.size();
  EXPECT_LT(spans, data.size() / spacing * 3 / 4);
  EXPECT_GT(spans, data.size() / spacing / 2);
}

TEST(Spans, OfManyMembers) {
  Bytes blob;
  Bytes data;
  std::mt19937 random(59);
  for (int i = 0; i < 60; ++i) {
    const Bytes part = testing::make_content(Content::mixed, random() % 60000, 61 + random() % 99);
    const Bytes member = testing::compress(part, {.level = static_cast<int>(random() % 10)});
    data.insert(data.end(), part.begin(), part.end());
    blob.insert(blob.end(), member.begin(), member.end());
  }
  const Indexed indexed = expect_good(blob, data);
  EXPECT_EQ(indexed.summary.members, 60U);
  EXPECT_GT(count_kind(indexed, CheckpointKind::member_start), 10U);
  // With a wide spacing, spans run across many members.
  expect_good(blob, data, 1 << 20);
}

TEST(Spans, EmptyMembersAndBlocks) {
  const Bytes none = testing::compress({}, {});
  const Bytes data = testing::make_content(Content::text, 200000, 67);
  const Bytes full = testing::compress(data, {});
  EXPECT_TRUE(expect_good(none, {}).sink.checkpoints.empty());
  EXPECT_TRUE(expect_good(concat({none, none}), {}).sink.checkpoints.empty());
  expect_good(concat({none, full}), data);
  expect_good(concat({full, none}), data);
  expect_good(concat({none, none, full, none, full, none}), concat({data, data}));
  // Empty stored blocks after each byte.
  const Bytes small = testing::make_content(Content::text, 5000, 67);
  expect_good(testing::compress(small, {.flush = Z_SYNC_FLUSH, .flush_every = 1}), small);
}

TEST(Spans, HeadersWithEverything) {
  const Bytes data = testing::make_content(Content::text, 1000, 71);
  for (const int has_crc : {0, 1}) {
    z_stream z{};
    deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY);
    Bytes extra(60000, 'x');
    Bytes name(5000, 'n');
    name.push_back(0);
    Bytes comment(3, 'c');
    comment.push_back(0);
    gz_header header{};
    header.extra = extra.data();
    header.extra_len = static_cast<uInt>(extra.size());
    header.name = name.data();
    header.comment = comment.data();
    header.hcrc = has_crc;
    deflateSetHeader(&z, &header);
    Bytes blob(80000);
    z.next_in = const_cast<Bytef*>(data.data());
    z.avail_in = static_cast<uInt>(data.size());
    z.next_out = blob.data();
    z.avail_out = static_cast<uInt>(blob.size());
    ASSERT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
    blob.resize(z.total_out);
    deflateEnd(&z);
    expect_good(concat({blob, blob}), concat({data, data}));
    blob[20] ^= 1;  // in the extra field
    EXPECT_EQ(index_blob(blob, kMinSpacing, 0).status.ok(), has_crc == 0);
  }
}

TEST(Spans, PaddingAndGarbageBehindTheLastMember) {
  const Bytes data = testing::make_content(Content::text, 100000, 73);
  const Bytes blob = testing::compress(data, {});
  const Indexed padded = expect_good(concat({blob, Bytes(5000)}), data);
  EXPECT_EQ(padded.summary.compressed_end, blob.size());
  for (const Bytes& tail : {Bytes{1}, Bytes{0, 0, 1}, Bytes{0x1f, 0x8b}, Bytes{0x1f}}) {
    const Indexed bad = index_blob(concat({blob, tail}), kMinSpacing, 0);
    ASSERT_FALSE(bad.status.ok());
    EXPECT_EQ(bad.status.error().code, Code::corrupt_input);
  }
  EXPECT_FALSE(index_blob(concat({blob, Bytes(10), blob}), kMinSpacing, 0).status.ok());
  EXPECT_FALSE(index_blob(Bytes{}, kMinSpacing, 1).status.ok());
  EXPECT_FALSE(index_blob(Bytes(100), kMinSpacing, 0).status.ok());
}

TEST(Spans, WrongTrailersAreFound) {
  const Bytes data = testing::make_content(Content::text, 100000, 79);
  const Bytes blob = testing::compress(data, {});
  for (size_t i = 1; i <= 8; ++i) {
    Bytes bad = blob;
    bad[bad.size() - i] ^= 0x10;
    const Status status = index_blob(bad, kMinSpacing, 0).status;
    ASSERT_FALSE(status.ok());
    EXPECT_THAT(status.error().message, HasSubstr(i <= 4 ? "length" : "CRC32"));
  }
  for (size_t n = 0; n < blob.size(); n += 1 + n / 8) {
    EXPECT_FALSE(index_blob(ByteView(blob).first(n), kMinSpacing, 0).status.ok()) << n;
  }
}

TEST(Spans, ARunNeedsItsFirstCheckpointOnly) {
  Bytes blob;
  Bytes data;
  for (uint32_t i = 0; i < 5; ++i) {
    const Bytes part = testing::make_content(Content::mixed, 400000, 83 + i);
    blob = concat({blob, testing::compress(part, {})});
    data = concat({data, part});
  }
  const Indexed indexed = index_blob(blob, kMinSpacing, blob.size());
  ASSERT_TRUE(indexed.status.ok());
  std::mt19937 random(89);
  SpanStream stream;
  for (int round = 0; round < 40; ++round) {
    const size_t count = indexed.sink.checkpoints.size();
    const size_t first = random() % count;
    const size_t last = first + random() % (count - first);
    const Checkpoint& from = indexed.sink.checkpoints[first];
    const uint64_t length = span_end(indexed, last) - from.uncompressed_offset;
    const Bytes compressed = compressed_of(indexed, blob, first, last);
    ASSERT_TRUE(stream.start(span_start(from), length).ok());
    testing::CollectSink sink;
    sink.checkpoints.resize(1);
    for (size_t at = 0; at < compressed.size();) {
      EXPECT_FALSE(stream.done());
      const size_t n = std::min<size_t>(compressed.size() - at, 1 + random() % 30000);
      ASSERT_TRUE(stream.feed(ByteView(compressed).subspan(at, n), sink).ok());
      at += n;
      EXPECT_EQ(stream.produced(), sink.output.size());
      if (stream.done()) break;
    }
    EXPECT_TRUE(stream.done());
    EXPECT_TRUE(sink.ordered);
    ASSERT_EQ(sink.output.size(), length);
    EXPECT_TRUE(std::equal(sink.output.begin(), sink.output.end(),
                           data.begin() + static_cast<ptrdiff_t>(from.uncompressed_offset)));
  }
}

TEST(Spans, IdentityHasTheSameInterface) {
  const Bytes data = testing::make_content(Content::random, 300000, 97);
  const Indexed indexed = index_blob(data, kMinSpacing, 0, 5, Encoding::identity);
  ASSERT_TRUE(indexed.status.ok());
  EXPECT_TRUE(indexed.sink.ordered);
  EXPECT_EQ(indexed.sink.output, data);
  EXPECT_EQ(indexed.sink.checkpoints.size(), 5U);
  expect_spans(indexed, data, data);
}

TEST(Spans, TruncatedOrDamagedSpansNeverPass) {
  const Bytes data = testing::make_content(Content::mixed, 500000, 101);
  const Bytes blob = testing::compress(data, {});
  const Indexed indexed = index_blob(blob, kMinSpacing, blob.size());
  SpanStream stream;
  std::mt19937 random(103);
  for (size_t i = 0; i < indexed.sink.checkpoints.size(); ++i) {
    const Checkpoint& from = indexed.sink.checkpoints[i];
    const Bytes good = compressed_of(indexed, blob, i, i);
    Bytes out(span_end(indexed, i) - from.uncompressed_offset);
    // The very last bytes may hold only what comes behind the data.
    const Status cut = stream.decode(span_start(from), ByteView(good).first(good.size() - 20), out);
    ASSERT_FALSE(cut.ok());
    EXPECT_EQ(cut.error().code, Code::corrupt_input);
    for (int round = 0; round < 30; ++round) {
      Bytes bad = good;
      bad[random() % bad.size()] ^= static_cast<uint8_t>(1U << random() % 8);
      (void)stream.decode(span_start(from), bad, out);  // no UB: for the sanitizers
      Checkpoint hurt = from;
      if (hurt.payload.empty()) continue;
      hurt.payload[random() % hurt.payload.size()] ^= static_cast<uint8_t>(1U << random() % 8);
      (void)stream.decode(span_start(hurt), good, out);
    }
  }
}

TEST(Spans, AWindowThatLacksBytesIsCorrupt) {
  const Bytes data = testing::make_content(Content::text, 400000, 107);
  const Bytes blob = testing::compress(data, {.memory = 5});
  const Indexed indexed = index_blob(blob, kMinSpacing, blob.size());
  ASSERT_GT(indexed.sink.checkpoints.size(), 2U);
  const Checkpoint& from = indexed.sink.checkpoints[1];
  ASSERT_EQ(from.kind, CheckpointKind::block_boundary);
  PayloadUnpacker unpacker;
  PayloadPacker packer;
  CheckpointPayload payload;
  ASSERT_TRUE(unpacker.unpack(from.kind, from.payload, payload).ok());
  SpanStream stream;
  Bytes out(span_end(indexed, 1) - from.uncompressed_offset);
  for (const size_t keep : {size_t{0}, payload.window.size() - 1}) {
    CheckpointPayload less = payload;
    less.window.resize(keep);
    Checkpoint hurt = from;
    hurt.payload = packer.pack(from.kind, less);
    const Status status = stream.decode(span_start(hurt), compressed_of(indexed, blob, 1, 1), out);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Code::corrupt_input);
  }
}

TEST(Spans, RefusesMalformedStarts) {
  SpanStream stream;
  const Bytes junk(100, 0x55);
  for (const SpanStart& start : {
           SpanStart{.kind = CheckpointKind::member_start, .compressed_bit = 3},
           SpanStart{.kind = CheckpointKind::identity, .compressed_bit = 1},
           SpanStart{.kind = CheckpointKind::member_start, .payload = junk},
           SpanStart{.kind = CheckpointKind::mid_block},
           SpanStart{.kind = CheckpointKind::mid_block, .payload = junk},
           SpanStart{.kind = CheckpointKind::block_boundary, .payload = junk},
           SpanStart{.kind = static_cast<CheckpointKind>(9)},
       }) {
    const Status status = stream.start(start, 10);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Code::corrupt_input);
  }
}

TEST(Spans, OptionsAndDetection) {
  testing::CollectSink sink;
  EXPECT_EQ(make_span_indexer(Encoding::gzip, {.spacing = 1000}, sink).error().code,
            Code::invalid_argument);
  EXPECT_EQ(detect_encoding(testing::compress({}, {})), Encoding::gzip);
  EXPECT_EQ(detect_encoding(Bytes{'u', 's', 'r', '/'}), Encoding::identity);
  EXPECT_EQ(detect_encoding(Bytes{}), Encoding::identity);
  EXPECT_EQ(detect_encoding(Bytes{0x28, 0xb5, 0x2f, 0xfd}), Encoding::zstd);
  EXPECT_EQ(detect_encoding(Bytes{0x5f, 0x2a, 0x4d, 0x18}), Encoding::zstd);
  EXPECT_EQ(detect_encoding(Bytes{0x60, 0x2a, 0x4d, 0x18}), Encoding::identity);
}

// Output of other compressors, where they are installed.
class SpansByTool : public ::testing::TestWithParam<const char*> {};

TEST_P(SpansByTool, AreRight) {
  const std::string command = GetParam();
  const std::string tool = command.substr(0, command.find(' '));
  if (std::system(("command -v " + tool + " >/dev/null 2>&1").c_str()) != 0) {
    GTEST_SKIP() << tool << " is not installed";
  }
  auto dir = TempDir::make("codec-test");
  ASSERT_TRUE(dir.ok());
  const std::string in = dir->path() / "in";
  const std::string out = dir->path() / "out";
  const size_t size = tool == "zopfli" ? 100000 : 800000;
  const Bytes data = testing::make_content(Content::mixed, size, 109);
  ASSERT_TRUE(replace_file(in, data).ok());
  ASSERT_EQ(std::system(
                (command + " -c <" + in + " >" + out + " " + (tool == "zopfli" ? in : "")).c_str()),
            0);
  auto blob = read_file(out);
  ASSERT_TRUE(blob.ok());
  const ByteView view = as_bytes(*blob);
  expect_good(Bytes(view.begin(), view.end()), data);
}

INSTANTIATE_TEST_SUITE_P(Tools, SpansByTool,
                         ::testing::Values("gzip -6", "gzip --rsyncable", "pigz -p2 -6",
                                           "pigz -p2 --rsyncable", "zopfli --i1"));

}  // namespace
}  // namespace pagein::codec
