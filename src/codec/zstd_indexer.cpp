#include "codec/zstd_indexer.h"

#include <string>

namespace pagein::codec {
namespace {

constexpr size_t kPieceBytes = 128 << 10;  // also the most that a zstd block yields
constexpr uint64_t kMagicBytes = 4;

}  // namespace

ZstdIndexer::ZstdIndexer(uint64_t spacing, uint64_t max_span, IndexSink& sink)
    : earliest_(spacing / 2),
      max_span_(max_span),
      sink_(sink),
      frames_(kConverterWindowLog),
      piece_(kPieceBytes) {}

Status ZstdIndexer::feed(ByteView compressed) {
  while (!compressed.empty()) {
    ASSIGN_OR_RETURN(const ZstdFrames::Step step, frames_.run(compressed, piece_));
    summary_.compressed_size += step.consumed;
    compressed = compressed.subspan(step.consumed);
    if (step.produced > 0) RETURN_IF_ERROR(on_output(ByteView(piece_).first(step.produced)));
    if (step.event == ZstdFrames::Event::data_begins) {
      frame_ = summary_.compressed_size - kMagicBytes;
      ++summary_.members;
    } else if (step.event == ZstdFrames::Event::frame_end) {
      frame_.reset();
      summary_.compressed_end = summary_.compressed_size;
    }
  }
  return {};
}

Status ZstdIndexer::on_output(ByteView piece) {
  const uint64_t offset = summary_.uncompressed_size;
  if (frame_ && (summary_.checkpoints == 0 || offset - last_ >= earliest_)) {
    ++summary_.checkpoints;
    last_ = offset;
    RETURN_IF_ERROR(sink_.on_checkpoint({.uncompressed_offset = offset,
                                         .compressed_bit = *frame_ * 8,
                                         .kind = CheckpointKind::frame_start}));
  }
  frame_.reset();
  summary_.uncompressed_size += piece.size();
  if (summary_.uncompressed_size - last_ > max_span_) {
    return Error(Code::unsupported, "its zstd frames are too long to be read singly (more than " +
                                        std::to_string(max_span_ >> 10) +
                                        " KiB); a full conversion makes short ones");
  }
  return sink_.on_output(piece);
}

Result<IndexSummary> ZstdIndexer::finish() {
  if (!frames_.between_frames()) {
    return Error(Code::corrupt_input, "zstd: the layer ends within a frame");
  }
  return summary_;
}

}  // namespace pagein::codec
