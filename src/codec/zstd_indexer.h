// The SpanIndexer of zstd layers.
#pragma once

#include <cstdint>
#include <optional>

#include "codec/span_indexer.h"
#include "codec/zstd_blocks.h"
#include "codec/zstd_checkpoint.h"
#include "codec/zstd_frames.h"
#include "codec/zstd_window.h"

namespace pagein::codec {

// Accepts what zstd(1) does: frames, with skippable ones before, between and
// behind them (seek tables, zstd:chunked's table of contents).
//
// A frame's start is free: one becomes a checkpoint if it comes at least half
// the spacing behind the last one, and always behind a span that began inside a
// frame. In longer frames, checkpoints are put at block boundaries. What one
// costs grows with the span behind it and then hardly any more; the next one is
// put where the share of the blob that its span has passed pays for it.
//
// libzstd decodes; ZstdBlockWalker follows, a block ahead, for what blocks refer
// to. `unsupported`: windows beyond 128 MiB, frames with a dictionary, or no
// possible checkpoint (an RLE table in force) for kMaxZstdSpan.
class ZstdIndexer final : public SpanIndexer {
 public:
  ZstdIndexer(const IndexOptions& options, IndexSink& sink);
  Status feed(ByteView compressed) override;
  Result<IndexSummary> finish() override;

 private:
  enum class Unit {
    magic,
    skip_size,
    skipping,
    header_start,
    header,
    block_header,
    block,
    checksum
  };

  Status on_unit();
  Status on_magic();
  Status on_frame_header();
  Status on_block_header();
  Status on_block();
  Status consider_checkpoint();
  Status end_frame();
  void expect(Unit unit, size_t bytes);
  void expect_block_or_end();
  Status decode(ByteView unit, uint64_t expected);
  Status on_output(ByteView piece);

  bool want_checkpoint() const;
  uint64_t pending_cost() const;
  Status put_checkpoint(CheckpointKind kind, uint64_t position);
  Status end_span();

  const uint64_t spacing_;
  const uint64_t least_;  // inside frames
  const uint64_t share_;
  IndexSink& sink_;
  ZstdFrames frames_;
  Bytes piece_;

  // The next piece of the format that has to be there as a whole.
  Unit unit_ = Unit::magic;
  Bytes buffer_;  // slack, the unit so far, slack
  size_t have_ = 0;
  size_t need_ = 4;
  uint64_t skip_left_ = 0;

  ZstdBlockWalker walker_;
  ZstdWindow window_;
  ZstdPayloadPacker packer_;
  ZstdFrameHeader frame_;
  ZstdBlockHeader block_;
  uint64_t frame_begin_ = 0;       // in the blob
  bool frame_is_new_ = false;      // it has given nothing yet
  uint64_t unit_begin_ = 0;        // in the blob
  uint64_t block_begin_ = 0;       // in the blob: its header
  bool inside_ = false;            // the last checkpoint is inside a frame
  bool recording_ = false;         // what that one needs
  uint64_t last_ = 0;              // tar offset of the last checkpoint
  uint64_t last_position_ = 0;     // its place in the blob
  uint64_t expected_cost_ = 0;     // of a checkpoint inside a frame
  uint64_t raw_ = 0, packed_ = 0;  // window bytes and payloads so far
  IndexSummary summary_;
};

// The tar alone; frames of any length.
class ZstdDecoder final : public SpanIndexer {
 public:
  explicit ZstdDecoder(OutputSink& sink);
  Status feed(ByteView compressed) override;
  Result<IndexSummary> finish() override;

 private:
  OutputSink& sink_;
  ZstdFrames frames_;
  Bytes piece_;
  IndexSummary summary_;
};

}  // namespace pagein::codec
