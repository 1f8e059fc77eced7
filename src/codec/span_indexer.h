// Reads a whole layer blob once, in order, and yields its tar and the
// checkpoints at which spans begin.
#pragma once

#include <cstdint>
#include <memory>

#include "base/file.h"
#include "base/result.h"
#include "codec/checkpoint.h"

namespace pagein::codec {

// Takes decoded bytes as they come. An error stops the decoder, which returns
// it. Called on the thread that feeds the decoder.
class OutputSink {
 public:
  virtual ~OutputSink() = default;
  // `piece` is valid during the call only; never empty; at most some 400 KiB.
  virtual Status on_output(ByteView piece) = 0;
};

// Takes checkpoints as well, exactly in their place: when on_checkpoint() is
// called, on_output() has been given checkpoint.uncompressed_offset bytes, no
// more and no fewer. So a span's digest can be kept by hashing what comes
// between two calls. The first checkpoint is at offset 0; offsets increase
// strictly, and output follows each (an empty tar has no checkpoint at all).
//
// What a checkpoint inside a zstd frame needs is known only where its span ends.
// Then on_payload() gives the last checkpoint's payload, once, before the next
// checkpoint or the end; the checkpoint itself came without one.
class IndexSink : public OutputSink {
 public:
  virtual Status on_checkpoint(Checkpoint checkpoint) = 0;
  virtual Status on_payload(Bytes payload) = 0;
};

struct IndexOptions {
  // Wanted bytes of tar between checkpoints. Spans are mostly within 5/8 and
  // 11/8 of it, for the sake of cheap checkpoints, longer where checkpoints are
  // dear, and never longer than twice this and a bit (max_span_bytes).
  uint64_t spacing = 256 << 10;
  // Of zstd frames longer than that: checkpoints inside them are put as densely
  // as this many ten-thousandths of the layer's size allow, at least kMinZstdSpan
  // apart and at most kWidestZstdSpan. Where even that takes more, it takes more.
  uint32_t payload_share = 400;
};
inline constexpr uint64_t kMinSpacing = 64 << 10;
inline constexpr uint64_t kMaxSpacing = 1 << 30;

// A checkpoint inside a block comes after the symbol that reaches twice the
// spacing; a symbol is at most 258 bytes.
constexpr uint64_t max_span_bytes(uint64_t spacing) { return 2 * spacing + 258; }

// zstd frames that are short are put into spans as if they were gzip members.
// These are the limits of spans inside long ones, of tar.
inline constexpr uint64_t kMinZstdSpan = 1 << 20;
inline constexpr uint64_t kWidestZstdSpan = 32 << 20;
inline constexpr uint64_t kMaxZstdSpan = 48 << 20;  // where no checkpoint was possible before

struct IndexSummary {
  uint64_t uncompressed_size = 0;  // of the tar
  uint64_t compressed_size = 0;    // everything that was fed
  // Bytes up to the end of the last member, without zero padding; of zstd, up to
  // the end of the last frame with data, without skippable ones.
  uint64_t compressed_end = 0;
  uint64_t members = 0;  // gzip members or zstd frames with data; 0 for identity
  uint64_t checkpoints = 0;
  uint64_t payload_bytes = 0;  // of all checkpoints
  // The layer's encoding: zstd_blocks where checkpoints are inside frames.
  Encoding encoding = Encoding::identity;
};

// One pass over one blob: feed() pieces in order, then finish(). Constant
// memory (about 1 MiB; of zstd, some three times the frames' window, which is
// 8 MiB where they are as usual and at most 128 MiB). Deterministic: the checkpoints depend on the
// blob and the options alone, not on how the blob was cut into pieces.
//
// Errors: corrupt_input for a blob that breaks its format, is truncated, or
// fails its CRC32 or length; whatever the sink returns. After an error only
// destruction is allowed. Never blocks. Thread-compatible.
class SpanIndexer {
 public:
  virtual ~SpanIndexer() = default;
  virtual Status feed(ByteView compressed) = 0;
  virtual Result<IndexSummary> finish() = 0;
};

// `sink` must outlive the indexer. invalid_argument if options are out of
// range. The indexer of zstd layers ends with `unsupported` where spans
// are not possible (zstd_indexer.h).
Result<std::unique_ptr<SpanIndexer>> make_span_indexer(Encoding encoding,
                                                       const IndexOptions& options,
                                                       IndexSink& sink);

// For who wants the tar alone: the same checks, no checkpoints, frames of any
// length.
std::unique_ptr<SpanIndexer> make_decoder(Encoding encoding, OutputSink& sink);

// From a blob's first bytes (4 are enough, fewer if the blob is shorter):
// gzip or zstd magic numbers (a skippable frame's too), else plain tar.
Encoding detect_encoding(ByteView first_bytes);

}  // namespace pagein::codec
