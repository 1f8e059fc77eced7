#include "codec/span_indexer.h"

#include <algorithm>

#include "codec/gzip_indexer.h"
#include "codec/zstd_indexer.h"

namespace pagein::codec {
namespace {

// Plain tar: a checkpoint at each multiple of the spacing.
class IdentityIndexer final : public SpanIndexer {
 public:
  IdentityIndexer(const IndexOptions& options, IndexSink& sink)
      : spacing_(options.spacing), sink_(sink) {}

  Status feed(ByteView bytes) override {
    while (!bytes.empty()) {
      const uint64_t into_span = summary_.uncompressed_size % spacing_;
      if (into_span == 0) RETURN_IF_ERROR(begin_span());
      const auto n = static_cast<size_t>(std::min<uint64_t>(bytes.size(), spacing_ - into_span));
      RETURN_IF_ERROR(sink_.on_output(bytes.first(n)));
      summary_.uncompressed_size += n;
      bytes = bytes.subspan(n);
    }
    return {};
  }

  Result<IndexSummary> finish() override {
    summary_.compressed_size = summary_.uncompressed_size;
    summary_.compressed_end = summary_.uncompressed_size;
    summary_.encoding = Encoding::identity;
    return summary_;
  }

 private:
  Status begin_span() {
    ++summary_.checkpoints;
    return sink_.on_checkpoint({.uncompressed_offset = summary_.uncompressed_size,
                                .compressed_bit = summary_.uncompressed_size * 8,
                                .kind = CheckpointKind::identity});
  }

  const uint64_t spacing_;
  IndexSink& sink_;
  IndexSummary summary_;
};

// Passes the tar on and forgets the checkpoints, of which there are as few as
// can be.
class Decoder final : public SpanIndexer {
 public:
  Decoder(Encoding encoding, OutputSink& sink) : forward_(sink) {
    const IndexOptions options{.spacing = kMaxSpacing};
    switch (encoding) {
      case Encoding::identity:
        indexer_ = std::make_unique<IdentityIndexer>(options, forward_);
        break;
      case Encoding::gzip: indexer_ = std::make_unique<GzipIndexer>(options, forward_); break;
      case Encoding::zstd:
      case Encoding::zstd_blocks: indexer_ = std::make_unique<ZstdDecoder>(sink); break;
    }
  }
  Status feed(ByteView compressed) override { return indexer_->feed(compressed); }
  Result<IndexSummary> finish() override { return indexer_->finish(); }

 private:
  class Forward final : public IndexSink {
   public:
    explicit Forward(OutputSink& sink) : sink_(sink) {}
    Status on_output(ByteView piece) override { return sink_.on_output(piece); }
    Status on_checkpoint(Checkpoint) override { return {}; }
    Status on_payload(Bytes) override { return {}; }

   private:
    OutputSink& sink_;
  };
  Forward forward_;
  std::unique_ptr<SpanIndexer> indexer_;
};

}  // namespace

Result<std::unique_ptr<SpanIndexer>> make_span_indexer(Encoding encoding,
                                                       const IndexOptions& options,
                                                       IndexSink& sink) {
  if (options.spacing < kMinSpacing || options.spacing > kMaxSpacing) {
    return Error(Code::invalid_argument, "checkpoint spacing " + std::to_string(options.spacing) +
                                             " is not within " + std::to_string(kMinSpacing) +
                                             ".." + std::to_string(kMaxSpacing));
  }
  switch (encoding) {
    case Encoding::identity: return std::make_unique<IdentityIndexer>(options, sink);
    case Encoding::gzip: return std::make_unique<GzipIndexer>(options, sink);
    case Encoding::zstd:
    case Encoding::zstd_blocks: return std::make_unique<ZstdIndexer>(options, sink);
  }
  return Error(Code::unsupported, "no indexer for this layer encoding");
}

std::unique_ptr<SpanIndexer> make_decoder(Encoding encoding, OutputSink& sink) {
  return std::make_unique<Decoder>(encoding, sink);
}

Encoding detect_encoding(ByteView first_bytes) {
  static constexpr uint8_t kGzip[] = {0x1f, 0x8b};              // RFC 1952, section 2.3.1
  static constexpr uint8_t kZstd[] = {0x28, 0xb5, 0x2f, 0xfd};  // RFC 8878, section 3.1.1
  static constexpr uint8_t kSkippable[] = {0x2a, 0x4d, 0x18};   // behind 0x50..0x5f; 3.1.2
  const auto begins_with = [](ByteView bytes, ByteView magic) {
    return bytes.size() >= magic.size() && std::equal(magic.begin(), magic.end(), bytes.begin());
  };
  if (begins_with(first_bytes, kGzip)) return Encoding::gzip;
  if (begins_with(first_bytes, kZstd)) return Encoding::zstd;
  if (first_bytes.size() >= 4 && first_bytes[0] >> 4 == 5 &&
      begins_with(first_bytes.subspan(1), kSkippable)) {
    return Encoding::zstd;
  }
  return Encoding::identity;
}

}  // namespace pagein::codec
