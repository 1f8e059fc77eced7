#include "codec/zstd_indexer.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/endian.h"

namespace pagein::codec {
namespace {

constexpr size_t kPieceBytes = 128 << 10;  // also the most that a zstd block yields
constexpr uint64_t kMagicBytes = 4;
constexpr uint32_t kFrameMagic = 0xFD2FB528;  // RFC 8878, section 3.1.1
constexpr uint64_t kTenThousand = 10000;

// The first checkpoint inside a frame is expected to cost this share of the
// window: more than most do, so that a short layer is not cut for too much.
constexpr uint64_t kFirstCostShare = 48;
// How much of what was saved a single span may spend: so that they do not
// swing between short and long.
constexpr int64_t kSpareParts = 8;
constexpr uint64_t kLeastCost = 8 << 10;

Error truncated() { return Error(Code::corrupt_input, "zstd: the layer ends within a frame"); }

}  // namespace

ZstdIndexer::ZstdIndexer(const IndexOptions& options, IndexSink& sink)
    : spacing_(options.spacing),
      least_(std::clamp(options.spacing, kMinZstdSpan, kWidestZstdSpan)),
      share_(options.payload_share),
      sink_(sink),
      frames_(kConverterWindowLog),
      piece_(kPieceBytes),
      buffer_(2 * ZstdBlockWalker::kSlack + kZstdMaxBlock) {}

void ZstdIndexer::expect(Unit unit, size_t bytes) {
  unit_ = unit;
  need_ = bytes;
  have_ = 0;
}

// Cuts the blob into the format's pieces.
Status ZstdIndexer::feed(ByteView compressed) {
  while (!compressed.empty()) {
    size_t n;
    if (unit_ == Unit::skipping) {
      n = static_cast<size_t>(std::min<uint64_t>(skip_left_, compressed.size()));
      skip_left_ -= n;
      RETURN_IF_ERROR(decode(compressed.first(n), 0));
    } else {
      if (have_ == 0) unit_begin_ = summary_.compressed_size;
      n = std::min(need_ - have_, compressed.size());
      std::copy_n(compressed.begin(), n,
                  buffer_.begin() + static_cast<ptrdiff_t>(ZstdBlockWalker::kSlack + have_));
      have_ += n;
    }
    summary_.compressed_size += n;
    compressed = compressed.subspan(n);
    if (unit_ == Unit::skipping ? skip_left_ > 0 : have_ < need_) continue;
    RETURN_IF_ERROR(on_unit());
  }
  return {};
}

Status ZstdIndexer::on_unit() {
  const ByteView unit = ByteView(buffer_).subspan(ZstdBlockWalker::kSlack, have_);
  switch (unit_) {
    case Unit::magic: return on_magic();
    case Unit::skip_size:
      RETURN_IF_ERROR(decode(unit, 0));
      skip_left_ = load_le<uint32_t>(unit.data());
      if (skip_left_ == 0) expect(Unit::magic, kMagicBytes);
      else unit_ = Unit::skipping;
      return {};
    case Unit::skipping: expect(Unit::magic, kMagicBytes); return {};
    case Unit::header_start:
      // The same bytes again, with those behind.
      need_ = zstd_frame_header_bytes(unit[0]);
      unit_ = Unit::header;
      if (have_ < need_) return {};
      [[fallthrough]];
    case Unit::header: return on_frame_header();
    case Unit::block_header: return on_block_header();
    case Unit::block: return on_block();
    case Unit::checksum: RETURN_IF_ERROR(decode(unit, 0)); return end_frame();
  }
  return {};
}

Status ZstdIndexer::on_magic() {
  const ByteView unit = ByteView(buffer_).subspan(ZstdBlockWalker::kSlack, have_);
  RETURN_IF_ERROR(decode(unit, 0));  // says whether it is one
  if (load_le<uint32_t>(unit.data()) == kFrameMagic) {
    frame_begin_ = unit_begin_;
    expect(Unit::header_start, 1);
  } else {
    expect(Unit::skip_size, 4);
  }
  return {};
}

Status ZstdIndexer::on_frame_header() {
  const ByteView unit = ByteView(buffer_).subspan(ZstdBlockWalker::kSlack, have_);
  RETURN_IF_ERROR(decode(unit, 0));
  ASSIGN_OR_RETURN(frame_, parse_zstd_frame_header(unit));
  if (frame_.window > kMaxZstdWindow) {
    return Error(Code::unsupported, "its zstd frames have a window of more than 128 MiB");
  }
  ++summary_.members;
  frame_is_new_ = true;
  walker_.begin_frame(summary_.uncompressed_size, frame_.window);
  window_.begin_frame(summary_.uncompressed_size, frame_.window);
  if (packed_ == 0) expected_cost_ = std::max(frame_.window / kFirstCostShare, kLeastCost);
  expect(Unit::block_header, kZstdBlockHeader);
  return {};
}

Status ZstdIndexer::on_block_header() {
  const ByteView unit = ByteView(buffer_).subspan(ZstdBlockWalker::kSlack, have_);
  block_begin_ = unit_begin_;
  ASSIGN_OR_RETURN(block_, parse_zstd_block_header(unit));
  // libzstd is given the header with the content: it may yield the block before
  // it has asked for more.
  if (block_.content_bytes() == 0) {
    RETURN_IF_ERROR(decode(unit, 0));
    if (block_.type == ZstdBlockHeader::Type::compressed) {
      return Error(Code::corrupt_input, "zstd: an empty block");
    }
    expect_block_or_end();
    return unit_ == Unit::magic ? end_frame() : Status();
  }
  RETURN_IF_ERROR(decode(unit, 0));
  expect(Unit::block, block_.content_bytes());
  return {};
}

// In front of a block that yields something.
Status ZstdIndexer::consider_checkpoint() {
  if (std::exchange(frame_is_new_, false)) {
    // A node that decodes from a frame's header takes its window with it.
    const bool long_window = frame_.window > uint64_t{1} << kNodeWindowLog;
    const bool far =
        summary_.checkpoints == 0 || summary_.uncompressed_size - last_ >= spacing_ / 2;
    if (long_window) return put_checkpoint(CheckpointKind::frame_block, block_begin_);
    if (far || inside_) return put_checkpoint(CheckpointKind::frame_start, frame_begin_);
    return {};
  }
  if (block_.type == ZstdBlockHeader::Type::compressed ? !walker_.can_start_here()
                                                       : walker_.has_rle_table()) {
    return {};
  }
  if (!want_checkpoint()) return {};
  return put_checkpoint(CheckpointKind::frame_block, block_begin_);
}

void ZstdIndexer::expect_block_or_end() {
  if (!block_.last) expect(Unit::block_header, kZstdBlockHeader);
  else if (frame_.checksum) expect(Unit::checksum, 4);
  else expect(Unit::magic, kMagicBytes);
}

Status ZstdIndexer::on_block() {
  const ByteView unit = ByteView(buffer_).subspan(ZstdBlockWalker::kSlack, have_);
  const bool compressed = block_.type == ZstdBlockHeader::Type::compressed;
  if (compressed) RETURN_IF_ERROR(walker_.parse(unit));
  const bool empty = compressed ? walker_.yields_nothing() : block_.size == 0;
  if (!empty) RETURN_IF_ERROR(consider_checkpoint());
  uint64_t yields = block_.size;
  if (compressed) {
    ASSIGN_OR_RETURN(yields, walker_.execute(window_));
  } else {
    walker_.skip(block_.size);
  }
  RETURN_IF_ERROR(decode(unit, yields));
  expect_block_or_end();
  return unit_ == Unit::magic ? end_frame() : Status();
}

Status ZstdIndexer::end_frame() {
  if (!frames_.between_frames()) return truncated();
  // What follows cannot refer to this frame.
  RETURN_IF_ERROR(end_span());
  summary_.compressed_end = summary_.compressed_size;
  expect(Unit::magic, kMagicBytes);
  return {};
}

// Gives libzstd a unit, which yields exactly that much.
Status ZstdIndexer::decode(ByteView unit, uint64_t expected) {
  uint64_t produced = 0;
  for (;;) {
    ASSIGN_OR_RETURN(const ZstdFrames::Step step, frames_.run(unit, piece_));
    unit = unit.subspan(step.consumed);
    produced += step.produced;
    if (produced > expected) break;
    if (step.produced > 0) RETURN_IF_ERROR(on_output(ByteView(piece_).first(step.produced)));
    if (unit.empty() && step.event != ZstdFrames::Event::output_full &&
        step.event != ZstdFrames::Event::data_begins) {
      break;
    }
  }
  if (produced == expected) return {};
  return Error(Code::unsupported, "its zstd blocks yield what they should not");
}

Status ZstdIndexer::on_output(ByteView piece) {
  window_.append(piece);
  summary_.uncompressed_size += piece.size();
  if (summary_.uncompressed_size - last_ > kMaxZstdSpan) {
    return Error(Code::unsupported,
                 "its zstd frames have too few places where decoding can start; a full conversion "
                 "makes short ones");
  }
  return sink_.on_output(piece);
}

// Each span has to earn what its start costs, with a part of what was saved
// before, or owed.
bool ZstdIndexer::want_checkpoint() const {
  const uint64_t distance = summary_.uncompressed_size - last_;
  if (distance < least_) return false;
  if (distance >= kWidestZstdSpan) return true;
  const auto share_of = [this](uint64_t bytes) {
    return static_cast<int64_t>(bytes * share_ / kTenThousand);
  };
  const int64_t earned = share_of(block_begin_ - last_position_);
  const int64_t saved = share_of(last_position_) - static_cast<int64_t>(summary_.payload_bytes);
  const auto cost = static_cast<int64_t>(pending_cost());
  const auto next = static_cast<int64_t>(expected_cost_);
  return cost <= earned + (saved - next) / kSpareParts && (inside_ || next <= earned + saved);
}

// What the last checkpoint takes, if its span ended here.
uint64_t ZstdIndexer::pending_cost() const {
  if (!recording_) return 0;
  const uint64_t kept = window_.kept_bytes();
  return packed_ == 0 ? kept / 2 : kept * packed_ / raw_;
}

Status ZstdIndexer::put_checkpoint(CheckpointKind kind, uint64_t position) {
  RETURN_IF_ERROR(end_span());
  const uint64_t offset = summary_.uncompressed_size;
  ++summary_.checkpoints;
  last_ = offset;
  last_position_ = position;
  inside_ = kind == CheckpointKind::frame_block;
  recording_ = inside_;
  if (inside_) summary_.encoding = Encoding::zstd_blocks;
  if (recording_) {
    walker_.begin_entropy();
    window_.record(offset);
  }
  return sink_.on_checkpoint(
      {.uncompressed_offset = offset, .compressed_bit = position * 8, .kind = kind});
}

Status ZstdIndexer::end_span() {
  if (!std::exchange(recording_, false)) return {};
  ZstdCheckpoint checkpoint;
  checkpoint.entropy = walker_.take_entropy();
  checkpoint.runs = window_.take(&checkpoint.bytes);
  window_.stop();
  if (checkpoint.needs_nothing()) return {};
  ASSIGN_OR_RETURN(Bytes payload, packer_.pack(checkpoint));
  summary_.payload_bytes += payload.size();
  expected_cost_ = std::max({payload.size(), expected_cost_ - expected_cost_ / 4, kLeastCost});
  raw_ += checkpoint.bytes.size() + 1;
  packed_ += payload.size();
  return sink_.on_payload(std::move(payload));
}

Result<IndexSummary> ZstdIndexer::finish() {
  if (unit_ != Unit::magic || have_ > 0) return truncated();
  if (summary_.encoding != Encoding::zstd_blocks) summary_.encoding = Encoding::zstd;
  return summary_;
}

ZstdDecoder::ZstdDecoder(OutputSink& sink)
    : sink_(sink), frames_(kConverterWindowLog), piece_(kPieceBytes) {
  summary_.encoding = Encoding::zstd;
}

Status ZstdDecoder::feed(ByteView compressed) {
  for (;;) {
    ASSIGN_OR_RETURN(const ZstdFrames::Step step, frames_.run(compressed, piece_));
    summary_.compressed_size += step.consumed;
    compressed = compressed.subspan(step.consumed);
    summary_.uncompressed_size += step.produced;
    if (step.produced > 0) RETURN_IF_ERROR(sink_.on_output(ByteView(piece_).first(step.produced)));
    if (step.event == ZstdFrames::Event::data_begins) ++summary_.members;
    if (step.event == ZstdFrames::Event::frame_end) {
      summary_.compressed_end = summary_.compressed_size;
    }
    // It may hold back output when all input is used up.
    if (compressed.empty() && step.produced == 0) return {};
  }
}

Result<IndexSummary> ZstdDecoder::finish() {
  if (!frames_.between_frames()) return truncated();
  return summary_;
}

}  // namespace pagein::codec
