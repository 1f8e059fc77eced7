#include "convert/layer_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "codec/span_decoder.h"
#include "convert/tar_stream.h"
#include "index/test_layer.h"

namespace pagein::convert {
namespace {

using codec::Encoding;
using index::testing::must;
using ::testing::HasSubstr;

constexpr uint64_t kChunk = 64 << 10;

class MemoryStream final : public ByteStream {
 public:
  explicit MemoryStream(Bytes bytes, size_t piece = 50'000)
      : bytes_(std::move(bytes)), piece_(piece) {}
  Result<size_t> read(std::span<uint8_t> out) override {
    const size_t n = std::min({out.size(), piece_, bytes_.size() - at_});
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(at_), n, out.begin());
    at_ += n;
    return n;
  }

 private:
  const Bytes bytes_;
  const size_t piece_;
  size_t at_ = 0;
};

class MemoryWriter final : public registry::BlobWriter {
 public:
  Status write(ByteView data) override {
    if (written_ + data.size() > limit) return Error(limit_code, "the registry is full");
    blob.insert(blob.end(), data.begin(), data.end());
    written_ += data.size();
    return {};
  }
  Result<oci::Descriptor> commit(const std::optional<oci::Digest>&) override {
    committed = true;
    oci::Descriptor out;
    out.digest = oci::Digest::of(blob);
    out.size = blob.size();
    return out;
  }
  Bytes blob;
  bool committed = false;
  uint64_t limit = UINT64_MAX;
  Code limit_code = Code::unavailable;
};

struct OnePass {
  explicit OnePass(size_t threads = 3) {
    pool = EncodePool::make({{.encoding = Encoding::gzip}, {.encoding = Encoding::zstd}}, threads)
               .value();
    options.chunk = kChunk;
  }
  Result<EncodedLayers> operator()(const Bytes& blob, const oci::Digest& diff_id) {
    MemoryStream stream(blob);
    return encode_layer(stream, diff_id, *pool, {{Encoding::gzip, &gzip}, {Encoding::zstd, &zstd}},
                        options);
  }
  std::unique_ptr<EncodePool> pool;
  EncodeLayerOptions options;
  MemoryWriter gzip;
  MemoryWriter zstd;
};

Bytes read_all(ByteStream& stream) {
  Bytes out;
  Bytes buffer(10'000);
  for (;;) {
    const size_t n = stream.read(buffer).value();
    if (n == 0) return out;
    out.insert(out.end(), buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(n));
  }
}

Bytes tar_bytes(const std::string& tar) { return {tar.begin(), tar.end()}; }

void expect_target(const EncodedLayer& layer, const MemoryWriter& writer, const Bytes& tar) {
  EXPECT_TRUE(writer.committed);
  EXPECT_EQ(layer.facts.layer_digest, oci::Digest::of(writer.blob));
  const auto stream = make_plain_tar_stream(std::make_unique<MemoryStream>(writer.blob, 777));
  EXPECT_TRUE(read_all(*stream) == tar);
  const auto index = index::parse_head(layer.index.head).value();
  EXPECT_EQ(index->layer_size, writer.blob.size());
  EXPECT_EQ(index->diff_id, oci::Digest::of(tar));
  EXPECT_TRUE(layer.index.checkpoints.empty());
  codec::SpanStream decoder;
  for (size_t i = 0; i < index->spans.size(); ++i) {
    const index::Span& span = index->spans[i];
    const uint64_t from = codec::first_byte(span.start.compressed_bit);
    const uint64_t to = i + 1 < index->spans.size()
                            ? codec::first_byte(index->spans[i + 1].start.compressed_bit)
                            : writer.blob.size();
    Bytes out(index->span_end(i) - span.uncompressed_begin);
    EXPECT_LE(out.size(), 2 * kChunk);
    ASSERT_TRUE(decoder
                    .decode({span.start.kind, span.start.compressed_bit, {}},
                            ByteView(writer.blob).subspan(from, to - from), out)
                    .ok());
    EXPECT_EQ(sha256(out), span.digest);
  }
}

TEST(LayerEncoder, BothEncodingsHaveTheTar) {
  const Bytes tar = tar_bytes(index::testing::sample_tar());
  OnePass run;
  uint64_t progress = 0;
  run.options.progress = [&](uint64_t bytes) { progress = bytes; };
  const Bytes blob = index::testing::gzip(tar, 6);
  const auto encoded = run(blob, oci::Digest::of(tar));
  ASSERT_TRUE(encoded.ok()) << encoded.error().message;
  EXPECT_EQ(progress, blob.size());
  EXPECT_EQ(encoded->tar_size, tar.size());
  EXPECT_GT(encoded->spans, 10U);
  ASSERT_EQ(encoded->targets.size(), 2U);
  expect_target(encoded->targets[0], run.gzip, tar);
  expect_target(encoded->targets[1], run.zstd, tar);
}

TEST(LayerEncoder, TheResultDependsOnTheTarAlone) {
  const Bytes tar = tar_bytes(index::testing::sample_tar());
  OnePass first;
  must(first(tar, oci::Digest::of(tar)));
  // Of what one conversion makes, another one makes the same.
  for (const Bytes& base : {index::testing::gzip(tar, 1), first.gzip.blob, first.zstd.blob}) {
    for (const size_t threads : {1U, 5U}) {
      OnePass run(threads);
      run.options.chunks_in_flight = threads + 1;
      must(run(base, oci::Digest::of(tar)));
      EXPECT_TRUE(run.gzip.blob == first.gzip.blob);
      EXPECT_TRUE(run.zstd.blob == first.zstd.blob);
    }
  }
}

TEST(LayerEncoder, AnEmptyTar) {
  OnePass run;
  const auto encoded = run(index::testing::gzip({}, 6), oci::Digest::of(Bytes{}));
  ASSERT_TRUE(encoded.ok()) << encoded.error().message;
  EXPECT_EQ(encoded->spans, 0U);
  expect_target(encoded->targets[0], run.gzip, {});
  expect_target(encoded->targets[1], run.zstd, {});
}

TEST(LayerEncoder, NothingIsCommittedOfAFalseLayer) {
  const Bytes tar = tar_bytes(index::testing::sample_tar());
  Bytes broken = index::testing::gzip(tar, 6);
  broken[broken.size() / 2] ^= 0x55;
  const Bytes cut(broken.begin(), broken.begin() + static_cast<ptrdiff_t>(broken.size() / 3));
  for (const Bytes& blob : {tar, broken, cut}) {
    OnePass run;
    const auto encoded = run(blob, oci::Digest::of(as_bytes("another tar")));
    ASSERT_FALSE(encoded.ok());
    EXPECT_EQ(encoded.error().code, Code::corrupt_input);
    EXPECT_FALSE(run.gzip.committed);
    EXPECT_FALSE(run.zstd.committed);
  }
}

TEST(LayerEncoder, AnErrorOfTheWriterIsTheOneThatCounts) {
  const Bytes tar = tar_bytes(index::testing::sample_tar());
  for (const uint64_t limit : {uint64_t{0}, uint64_t{300'000}}) {
    OnePass run;
    run.zstd.limit = limit;
    const auto encoded = run(index::testing::gzip(tar, 6), oci::Digest::of(tar));
    ASSERT_FALSE(encoded.ok());
    EXPECT_EQ(encoded.error().code, Code::unavailable);
    EXPECT_FALSE(run.gzip.committed);
  }
  // "unsupported" would mean that the layer is to be left.
  OnePass run;
  run.zstd.limit = 0;
  run.zstd.limit_code = Code::unsupported;
  EXPECT_EQ(run(tar, oci::Digest::of(tar)).error().code, Code::internal);
}

TEST(LayerEncoder, ATarThatCannotBeReadIsUnsupported) {
  tar::TestArchive archive;
  archive.file("a", std::string(500'000, 'x')).header({.name = "odd", .type = 'Q'}).end();
  const Bytes tar = tar_bytes(archive.bytes());
  OnePass run;
  const auto encoded = run(tar, oci::Digest::of(tar));
  ASSERT_FALSE(encoded.ok());
  EXPECT_EQ(encoded.error().code, Code::unsupported) << encoded.error().message;
}

TEST(LayerEncoder, StopsWhenTold) {
  const Bytes tar = tar_bytes(index::testing::sample_tar());
  std::atomic<bool> stop{true};
  OnePass run;
  run.options.stop = &stop;
  EXPECT_EQ(run(tar, oci::Digest::of(tar)).error().code, Code::cancelled);
}

}  // namespace
}  // namespace pagein::convert
