#include "codec/gzip_indexer.h"

#include <algorithm>
#include <string>
#include <utility>

#include "codec/crc32.h"

namespace pagein::codec {
namespace {

// Output is handed over in pieces of about this size: small enough to stay in
// the second-level cache between decoder, CRC and sink.
constexpr size_t kPieceBytes = 128 << 10;

// How far around the wanted place a cheaper checkpoint is looked for, at most
// each way. Output is held back for as long. Against taking the first boundary
// behind the wanted place this made the payloads of usual layers a fifth
// smaller at the same mean span, for 0.05 CPU seconds per GB.
constexpr uint64_t kMaxChoice = 96 << 10;

// Payloads of more than 1/64 of the compressed bytes before them are dear: the
// wanted distance then grows by a sixteenth, up to what the longest span allows,
// and shrinks again when they are not. Layers that compress well (text, four to
// one) have dear ones: their 256 KiB are only 64 KiB of blob.
constexpr uint64_t kDearShare = 64;

// History, what is held back until a candidate is decided, and a piece.
constexpr size_t kBufferBytes = kWindowBytes + 2 * kMaxChoice + 2 * kWindowBytes + kPieceBytes;

uint64_t choice(uint64_t spacing) { return std::min(spacing * 3 / 8, kMaxChoice); }

}  // namespace

GzipIndexer::GzipIndexer(const IndexOptions& options, IndexSink& sink)
    : spacing_(options.spacing), wanted_(options.spacing), sink_(sink), output_(kBufferBytes) {}

Status GzipIndexer::feed(ByteView compressed) {
  summary_.compressed_size += compressed.size();
  input_.set_piece(compressed);
  for (;;) {
    if (place_ != Place::member) {
      ASSIGN_OR_RETURN(const bool at_member, between_members());
      if (!at_member) return {};
    }
    Inflater::Tail tail = Inflater::Tail::loose;
    const uint8_t* const until = limit(tail);
    ASSIGN_OR_RETURN(const MemberDecoder::Event event, member_.run(input_, output_, until, tail));
    if (event == MemberDecoder::Event::need_input) return {};
    RETURN_IF_ERROR(on_event(event));
  }
}

// Begins the next member, or checks the padding. False if more input is
// needed.
Result<bool> GzipIndexer::between_members() {
  while (input_.fill(8)) {
    if (summary_.members > 0 && input_.peek(8) == 0) {
      place_ = Place::padding;
      input_.drop(8);
      continue;
    }
    if (place_ == Place::padding) {
      return Error(Code::corrupt_input, "gzip: bytes that are not zero follow the last member");
    }
    place_ = Place::member;
    member_.start_member();
    RETURN_IF_ERROR(advance());
    consider(CheckpointKind::member_start, input_.bit_position());
    return true;
  }
  return false;
}

Status GzipIndexer::on_event(MemberDecoder::Event event) {
  switch (event) {
    case MemberDecoder::Event::need_input: return {};
    case MemberDecoder::Event::output_limit: return on_limit();
    case MemberDecoder::Event::block_boundary:
      RETURN_IF_ERROR(advance());
      consider(CheckpointKind::block_boundary, input_.bit_position());
      return {};
    case MemberDecoder::Event::data_end:
      // What follows cannot refer to this member's data.
      if (pending_) complete_pending();
      return {};
    case MemberDecoder::Event::end: return on_member_end();
  }
  return {};
}

Status GzipIndexer::on_member_end() {
  update_crc();
  const uint64_t length = output_.next_offset() - member_start_;
  if (crc_ != member_.stored_crc()) {
    return Error(Code::corrupt_input, "gzip: a member's data fails its CRC32");
  }
  if (static_cast<uint32_t>(length) != member_.stored_length()) {
    return Error(Code::corrupt_input, "gzip: a member's data is not of the length it states");
  }
  crc_ = 0;
  member_start_ = output_.next_offset();
  ++summary_.members;
  summary_.compressed_end = input_.bit_position() / 8;
  place_ = Place::before_member;
  return {};
}

// Where the decoder must stop next. Only for a checkpoint inside a block does
// the exact place matter.
const uint8_t* GzipIndexer::limit(Inflater::Tail& tail) {
  uint64_t stop = output_.offset_of(output_.limit_end);
  const uint64_t now = output_.next_offset();
  if (pending_) {
    stop = std::min(stop, pending_->offset + kWindowBytes);
  } else if (best_) {
    stop = std::min(stop, last_ + latest());
  } else if (const uint64_t deadline = last_ + 2 * spacing_;
             deadline < stop + kOutputSlack && (now < deadline || member_.inflater().in_block())) {
    stop = std::min(stop, deadline);
    tail = Inflater::Tail::exact;
  }
  return output_.at(std::max(stop, now));
}

Status GzipIndexer::on_limit() {
  RETURN_IF_ERROR(advance());
  if (!pending_ && !best_ && output_.next_offset() >= last_ + 2 * spacing_ &&
      member_.inflater().in_block()) {
    begin_references(CheckpointKind::mid_block, input_.bit_position());
    pending_->payload.block = member_.inflater().block_state();
  }
  if (output_.next < output_.limit_end) return {};
  update_crc();
  uint64_t free = output_.next_offset();
  if (pending_) free = std::min(free, pending_->offset);
  if (best_) free = std::min(free, best_->offset);
  RETURN_IF_ERROR(flush(free));
  uint64_t keep = std::min(free, output_.next_offset() - kWindowBytes);
  output_.slide(output_.at(std::max(keep, output_.offset)));
  return {};
}

void GzipIndexer::consider(CheckpointKind kind, uint64_t bit) {
  const uint64_t now = output_.next_offset();
  if (pending_ || (any_ && now < last_ + earliest())) return;
  begin_references(kind, bit);
}

void GzipIndexer::begin_references(CheckpointKind kind, uint64_t bit) {
  pending_ = Candidate{.offset = output_.next_offset(), .bit = bit, .kind = kind};
  if (kind != CheckpointKind::member_start) output_.references.record(output_.next);
}

// Decides what can be decided at this place. Depends on places alone, not on
// when it is called.
Status GzipIndexer::advance() {
  const uint64_t now = output_.next_offset();
  if (pending_ && now > pending_->offset) {
    const bool free = pending_->kind == CheckpointKind::member_start;
    if (free || now >= pending_->offset + kWindowBytes) complete_pending();
  }
  if (!best_ || pending_) return {};
  const bool free = best_->kind == CheckpointKind::member_start;
  if (now == best_->offset || (!free && now < last_ + latest())) return {};
  Candidate chosen = *std::move(best_);
  best_.reset();
  return accept(std::move(chosen));
}

void GzipIndexer::complete_pending() {
  if (output_.references.active()) {
    pending_->payload.window = output_.references.bytes();
    output_.references.stop();
  }
  if (!best_ || pending_->payload.window.size() < best_->payload.window.size()) {
    best_ = std::move(pending_);
  }
  pending_.reset();
}

Status GzipIndexer::accept(Candidate candidate) {
  RETURN_IF_ERROR(flush(candidate.offset));
  Checkpoint checkpoint{.uncompressed_offset = candidate.offset,
                        .compressed_bit = candidate.bit,
                        .kind = candidate.kind,
                        .payload = packer_.pack(candidate.kind, candidate.payload)};
  last_ = candidate.offset;
  any_ = true;
  ++summary_.checkpoints;
  summary_.payload_bytes += checkpoint.payload.size();
  adapt(candidate.bit / 8);
  return sink_.on_checkpoint(std::move(checkpoint));
}

uint64_t GzipIndexer::earliest() const { return wanted_ - choice(spacing_); }
uint64_t GzipIndexer::latest() const { return wanted_ + choice(spacing_); }

void GzipIndexer::adapt(uint64_t compressed) {
  const uint64_t step = spacing_ / 16;
  if (summary_.payload_bytes * kDearShare > compressed) {
    wanted_ = std::min(wanted_ + step, 2 * spacing_ - choice(spacing_));
  } else {
    wanted_ = std::max(wanted_ - step, spacing_);
  }
}

Status GzipIndexer::flush(uint64_t until) {
  if (until <= flushed_) return {};
  const ByteView piece(output_.at(flushed_), output_.at(until));
  flushed_ = until;
  return sink_.on_output(piece);
}

void GzipIndexer::update_crc() {
  crc_ = crc32(crc_, {output_.at(crc_done_), output_.next});
  crc_done_ = output_.next_offset();
}

Result<IndexSummary> GzipIndexer::finish() {
  if (place_ == Place::member) {
    return Error(Code::corrupt_input, "gzip: the blob ends inside a member");
  }
  if (summary_.members == 0) return Error(Code::corrupt_input, "gzip: the blob is empty");
  const uint64_t end = output_.next_offset();
  if (pending_ && pending_->offset < end) complete_pending();
  pending_.reset();
  // The last span need not be cut for less than a span.
  if (best_ && best_->offset < end && (!any_ || end > last_ + latest())) {
    RETURN_IF_ERROR(accept(*std::move(best_)));
  }
  best_.reset();
  RETURN_IF_ERROR(flush(end));
  summary_.uncompressed_size = end;
  summary_.encoding = Encoding::gzip;
  return summary_;
}

}  // namespace pagein::codec
