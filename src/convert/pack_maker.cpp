#include "convert/pack_maker.h"

#include <deque>
#include <map>

#include "startup/pack_format.h"
#include "startup/pack_head.h"
#include "startup/piece_encoder.h"

namespace pagein::convert {
namespace {

// What is under way side by side.
constexpr size_t kReadsAhead = 16;
constexpr uint64_t kBytesAhead = 8 << 20;  // of tar, more by one piece
// Pieces that were too long for what the limit leaves; smaller ones may still fit,
// but are not tried for ever.
constexpr int kMaxMisses = 8;

class PackMaker {
 public:
  PackMaker(const std::vector<LayerAccess>& layers,
            const std::vector<startup::PlannedPiece>& pieces, const PackLimits& limits)
      : layers_(layers), pieces_(pieces), limits_(limits) {}

  Result<MadePack> run();

 private:
  struct Ahead {
    size_t piece;
    PendingSpans spans;
  };
  bool is_stored(const startup::PlannedPiece& piece) const {
    return piece.scattered && piece.tar_bytes <= startup::kMaxPieceBytes;
  }
  Status read_ahead();
  // The frame of piece i, 0 bytes if it is not to be stored.
  Result<ByteView> frame_of(size_t i);
  uint32_t layer_number(uint32_t layer);

  const std::vector<LayerAccess>& layers_;
  const std::vector<startup::PlannedPiece>& pieces_;
  const PackLimits limits_;
  startup::PieceEncoder encoder_{kPackLevel};
  codec::SpanStream decoder_;
  std::deque<Ahead> ahead_;
  uint64_t bytes_ahead_ = 0;
  size_t next_ = 0;  // to be read ahead
  int misses_ = 0;
  bool full_ = false;
  std::map<oci::Digest, uint32_t> numbers_;
  startup::PackHead head_;
  MadePack made_;
};

Status PackMaker::read_ahead() {
  while (next_ < pieces_.size() && ahead_.size() < kReadsAhead && bytes_ahead_ < kBytesAhead) {
    const startup::PlannedPiece& piece = pieces_[next_];
    if (is_stored(piece)) {
      auto spans = PendingSpans::begin(layers_[piece.layer], piece.first_span, piece.span_count);
      if (spans.ok()) {
        bytes_ahead_ += piece.tar_bytes;
        ahead_.push_back({next_, *std::move(spans)});
      } else if (spans.error().code != Code::unsupported) {
        return spans.error();
      }
    }
    ++next_;
  }
  return {};
}

Result<ByteView> PackMaker::frame_of(size_t i) {
  if (full_) return ByteView();
  RETURN_IF_ERROR(read_ahead());
  if (ahead_.empty() || ahead_.front().piece != i) return ByteView();
  bytes_ahead_ -= pieces_[i].tar_bytes;
  const auto tar = ahead_.front().spans.wait(decoder_);
  ahead_.pop_front();
  if (!tar.ok() && tar.error().code == Code::unsupported) return ByteView();
  RETURN_IF_ERROR(tar);
  ASSIGN_OR_RETURN(const ByteView frame, encoder_.encode(*tar));
  if (frame.size() > startup::kMaxStoredPiece) return ByteView();
  if (frame.size() > limits_.stored_bytes - made_.frames.size()) {
    if (++misses_ == kMaxMisses) {
      full_ = true;
      ahead_.clear();
    }
    return ByteView();
  }
  return frame;
}

uint32_t PackMaker::layer_number(uint32_t layer) {
  const auto [it, is_new] = numbers_.emplace(layers_[layer].index->diff_id, head_.diff_ids.size());
  if (is_new) head_.diff_ids.push_back(it->first);
  return it->second;
}

Result<MadePack> PackMaker::run() {
  StartupReport& report = made_.report;
  for (size_t i = 0; i < pieces_.size(); ++i) {
    if (limits_.stop != nullptr && *limits_.stop) return Error(Code::cancelled, "stopped");
    const startup::PlannedPiece& piece = pieces_[i];
    ASSIGN_OR_RETURN(const ByteView frame, frame_of(i));
    made_.frames.insert(made_.frames.end(), frame.begin(), frame.end());
    head_.pieces.push_back({layer_number(piece.layer), piece.first_span, piece.span_count,
                            static_cast<uint32_t>(frame.size())});
    ++report.pieces;
    report.tar_bytes += piece.tar_bytes;
    if (frame.empty()) continue;
    ++report.stored_pieces;
    report.stored_tar_bytes += piece.tar_bytes;
  }
  report.stored_bytes = made_.frames.size();
  ASSIGN_OR_RETURN(made_.head, startup::write_pack_head(&head_));
  return std::move(made_);
}

}  // namespace

Result<MadePack> make_pack(const std::vector<LayerAccess>& layers,
                           const std::vector<startup::PlannedPiece>& pieces,
                           const PackLimits& limits) {
  return PackMaker(layers, pieces, limits).run();
}

bool have_same_spans(const std::vector<LayerAccess>& a, const std::vector<LayerAccess>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    const index::LayerIndex& x = *a[i].index;
    const index::LayerIndex& y = *b[i].index;
    const bool same = x.diff_id == y.diff_id && x.tar_size == y.tar_size &&
                      std::equal(x.spans.begin(), x.spans.end(), y.spans.begin(), y.spans.end(),
                                 [](const index::Span& s, const index::Span& t) {
                                   return s.uncompressed_begin == t.uncompressed_begin;
                                 });
    if (!same) return false;
  }
  return true;
}

}  // namespace pagein::convert
