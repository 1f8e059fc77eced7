#include "codec/span_decoder.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "codec/checkpoint_payload.h"
#include "codec/member_decoder.h"
#include "codec/zstd_frames.h"
#include "codec/zstd_span.h"

namespace pagein::codec {
namespace {

constexpr size_t kPieceBytes = 256 << 10;

// Far above any layer; so that sums do not overflow.
constexpr uint64_t kMaxLength = uint64_t{1} << 60;

// Fills a buffer of the caller's.
class CopySink final : public OutputSink {
 public:
  explicit CopySink(std::span<uint8_t> out) : out_(out) {}
  Status on_output(ByteView piece) override {
    std::memcpy(out_.data(), piece.data(), piece.size());
    out_ = out_.subspan(piece.size());
    return {};
  }

 private:
  std::span<uint8_t> out_;
};

}  // namespace

class SpanStream::Impl {
 public:
  Status start(const SpanStart& start, uint64_t length);
  Status feed(ByteView compressed, OutputSink& sink);
  bool done() const { return produced_ == length_; }
  uint64_t produced() const { return produced_; }

 private:
  Status start_zstd_block(const SpanStart& start, uint64_t length);
  Status feed_identity(ByteView bytes, OutputSink& sink);
  Status feed_zstd(ByteView bytes, OutputSink& sink);
  Status feed_zstd_block(ByteView bytes, OutputSink& sink);
  const uint8_t* limit();
  Status on_event(MemberDecoder::Event event, OutputSink& sink);
  Status flush(OutputSink& sink);

  CheckpointKind kind_ = CheckpointKind::identity;
  uint64_t length_ = 0;
  uint64_t produced_ = 0;   // given to the sink
  unsigned skip_bits_ = 0;  // of the first byte
  PayloadUnpacker unpacker_;
  CheckpointPayload payload_;
  MemberDecoder member_;
  std::unique_ptr<ZstdFrames> zstd_;   // once there was a span of that kind
  std::optional<ZstdSpan> zstd_span_;  // while one is under way: it is large
  BitInput input_;
  OutputBuffer output_{kWindowBytes + kPieceBytes};
};

Status SpanStream::Impl::start(const SpanStart& start, uint64_t length) {
  kind_ = start.kind;
  length_ = 0;  // done, should the start fail
  if (length > kMaxLength) return Error(Code::invalid_argument, "span: absurdly long");
  produced_ = 0;
  skip_bits_ = static_cast<unsigned>(start.compressed_bit % 8);
  input_.restart(first_byte(start.compressed_bit));
  // Offsets in the buffer count from the span's beginning less a window.
  output_.restart(0);
  zstd_span_.reset();
  if (start.kind == CheckpointKind::frame_block) return start_zstd_block(start, length);
  RETURN_IF_ERROR(unpacker_.unpack(start.kind, start.payload, payload_));
  switch (start.kind) {
    case CheckpointKind::identity:
    case CheckpointKind::member_start:
    case CheckpointKind::frame_start:
      if (skip_bits_ != 0) {
        return Error(Code::corrupt_input, "checkpoint: not at a whole byte, as its kind must be");
      }
      if (start.kind == CheckpointKind::frame_start) {
        if (zstd_ == nullptr) zstd_ = std::make_unique<ZstdFrames>(kNodeWindowLog);
        zstd_->restart();
      }
      member_.start_member();
      break;
    case CheckpointKind::block_boundary: member_.start_block(); break;
    case CheckpointKind::mid_block: RETURN_IF_ERROR(member_.start_mid_block(payload_.block)); break;
    default: return Error(Code::corrupt_input, "checkpoint: of an unknown kind");
  }
  output_.next += kWindowBytes;
  // Without window bytes, nothing before the span may be referred to.
  if (payload_.window.empty()) {
    output_.history = output_.next;
  } else {
    std::memset(output_.data(), 0, kWindowBytes);
    output_.references.replay(output_.next, payload_.window);
  }
  length_ = length;
  return {};
}

Status SpanStream::Impl::start_zstd_block(const SpanStart& start, uint64_t length) {
  if (skip_bits_ != 0) {
    return Error(Code::corrupt_input, "checkpoint: not at a whole byte, as its kind must be");
  }
  ASSIGN_OR_RETURN(zstd_span_, ZstdSpan::start(start.payload, length));
  length_ = length;
  return {};
}

Status SpanStream::Impl::feed(ByteView compressed, OutputSink& sink) {
  if (kind_ == CheckpointKind::identity) return feed_identity(compressed, sink);
  if (kind_ == CheckpointKind::frame_start) return feed_zstd(compressed, sink);
  if (kind_ == CheckpointKind::frame_block) return feed_zstd_block(compressed, sink);
  if (done() || compressed.empty()) return {};
  input_.set_piece(compressed);
  if (skip_bits_ > 0) {
    input_.fill(skip_bits_);
    input_.drop(skip_bits_);
    skip_bits_ = 0;
  }
  while (!done()) {
    // Not one symbol beyond the span is looked at: it may be damaged.
    const uint64_t end = kWindowBytes + length_;
    const uint8_t* const until = limit();
    const auto tail = output_.offset_of(until) + kOutputSlack > end ? Inflater::Tail::exact
                                                                    : Inflater::Tail::loose;
    ASSIGN_OR_RETURN(const MemberDecoder::Event event, member_.run(input_, output_, until, tail));
    if (event == MemberDecoder::Event::need_input) return flush(sink);
    RETURN_IF_ERROR(on_event(event, sink));
  }
  return {};
}

Status SpanStream::Impl::feed_identity(ByteView bytes, OutputSink& sink) {
  const auto n = static_cast<size_t>(std::min<uint64_t>(bytes.size(), length_ - produced_));
  if (n == 0) return {};
  produced_ += n;
  return sink.on_output(bytes.first(n));
}

// libzstd keeps its own window: the buffer only carries pieces to the sink.
Status SpanStream::Impl::feed_zstd(ByteView bytes, OutputSink& sink) {
  // It may hold back output when all input is used up.
  while (!done()) {
    const auto room = static_cast<size_t>(std::min<uint64_t>(kPieceBytes, length_ - produced_));
    ASSIGN_OR_RETURN(const ZstdFrames::Step step, zstd_->run(bytes, {output_.data(), room}));
    bytes = bytes.subspan(step.consumed);
    if (step.produced == 0 && bytes.empty()) break;
    if (step.produced == 0) continue;
    produced_ += step.produced;
    RETURN_IF_ERROR(sink.on_output({output_.data(), step.produced}));
  }
  return {};
}

Status SpanStream::Impl::feed_zstd_block(ByteView bytes, OutputSink& sink) {
  while (!done() && zstd_span_) {
    const auto room = static_cast<size_t>(std::min<uint64_t>(kPieceBytes, length_ - produced_));
    const std::span<uint8_t> out(output_.data(), room);
    ASSIGN_OR_RETURN(const ZstdSpan::Step step, zstd_span_->run(bytes, out));
    bytes = bytes.subspan(step.consumed);
    if (step.produced == 0) break;
    produced_ += step.produced;
    RETURN_IF_ERROR(sink.on_output(ByteView(output_.data(), step.produced)));
  }
  if (done()) zstd_span_.reset();
  return {};
}

// Where the decoder must stop: at the end of the span, of the buffer, or of
// the data that can refer to the window.
const uint8_t* SpanStream::Impl::limit() {
  uint64_t stop = std::min(output_.offset_of(output_.limit_end), kWindowBytes + length_);
  if (output_.references.active()) stop = std::min<uint64_t>(stop, 2 * kWindowBytes);
  return output_.at(std::max(stop, output_.next_offset()));
}

Status SpanStream::Impl::on_event(MemberDecoder::Event event, OutputSink& sink) {
  switch (event) {
    case MemberDecoder::Event::output_limit: {
      const bool full = output_.next >= output_.limit_end;
      if (output_.next_offset() >= 2 * kWindowBytes && output_.references.active()) {
        RETURN_IF_ERROR(flush(sink));
        output_.references.stop();
      }
      if (!full && output_.next_offset() < kWindowBytes + length_) return {};
      RETURN_IF_ERROR(flush(sink));
      output_.slide(output_.next - kWindowBytes);
      return {};
    }
    case MemberDecoder::Event::data_end:
      RETURN_IF_ERROR(flush(sink));
      output_.references.stop();
      return {};
    case MemberDecoder::Event::end: member_.start_member(); return {};
    default:  // block_boundary
      return {};
  }
}

// Gives the sink all that was decoded and belongs to the span.
Status SpanStream::Impl::flush(OutputSink& sink) {
  if (output_.references.active() && output_.references.missing()) {
    return Error(Code::corrupt_input, "checkpoint: its window lacks bytes that the data refers to");
  }
  const uint64_t have = std::min(output_.next_offset() - kWindowBytes, length_);
  if (have == produced_) return {};
  const ByteView piece(output_.at(kWindowBytes + produced_), output_.at(kWindowBytes + have));
  produced_ = have;
  return sink.on_output(piece);
}

SpanStream::SpanStream() : impl_(std::make_unique<Impl>()) {}
SpanStream::~SpanStream() = default;
SpanStream::SpanStream(SpanStream&&) noexcept = default;
SpanStream& SpanStream::operator=(SpanStream&&) noexcept = default;

Status SpanStream::start(const SpanStart& start, uint64_t length) {
  return impl_->start(start, length);
}
Status SpanStream::feed(ByteView compressed, OutputSink& sink) {
  return impl_->feed(compressed, sink);
}
bool SpanStream::done() const { return impl_->done(); }
uint64_t SpanStream::produced() const { return impl_->produced(); }

Status SpanStream::decode(const SpanStart& start, ByteView compressed, std::span<uint8_t> out) {
  RETURN_IF_ERROR(impl_->start(start, out.size()));
  CopySink sink(out);
  RETURN_IF_ERROR(impl_->feed(compressed, sink));
  if (!impl_->done()) {
    return Error(Code::corrupt_input, "span: the compressed bytes end after " +
                                          std::to_string(impl_->produced()) + " of " +
                                          std::to_string(out.size()) + " bytes");
  }
  return {};
}

}  // namespace pagein::codec
