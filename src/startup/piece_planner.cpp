#include "startup/piece_planner.h"

#include <algorithm>

#include "startup/pack_format.h"

namespace pagein::startup {
namespace {

static_assert(kLongRun < kMaxPieceBytes);

uint64_t bytes_of(const index::LayerIndex& layer, size_t first, size_t end) {
  return layer.span_end(end - 1) - layer.spans[first].uncompressed_begin;
}

// The pieces of one layer, and each of its wanted spans' piece.
class LayerPieces {
 public:
  LayerPieces(uint32_t number, const index::LayerIndex& layer, const std::vector<bool>& wanted)
      : number_(number), layer_(layer), piece_of_(wanted.size(), 0) {
    for (size_t i = 0; i < wanted.size();) {
      if (!wanted[i]) {
        ++i;
        continue;
      }
      size_t end = i;
      while (end < wanted.size() && wanted[end]) ++end;
      cut_run(i, end);
      i = end;
    }
  }

  // At its first span: the piece; at later ones nullptr.
  const PlannedPiece* take(uint32_t span) {
    const uint32_t at = piece_of_[span];
    if (taken_[at]) return nullptr;
    taken_[at] = true;
    return &pieces_[at];
  }

 private:
  void cut_run(size_t begin, size_t end) {
    const bool scattered = bytes_of(layer_, begin, end) < kLongRun;
    while (begin < end) {
      size_t stop = scattered ? end : begin + 1;
      while (stop < end && bytes_of(layer_, begin, stop + 1) <= kLongRun) ++stop;
      std::fill(piece_of_.begin() + static_cast<ptrdiff_t>(begin),
                piece_of_.begin() + static_cast<ptrdiff_t>(stop),
                static_cast<uint32_t>(pieces_.size()));
      pieces_.push_back({number_, static_cast<uint32_t>(begin), static_cast<uint32_t>(stop - begin),
                         bytes_of(layer_, begin, stop), scattered});
      taken_.push_back(false);
      begin = stop;
    }
  }

  const uint32_t number_;
  const index::LayerIndex& layer_;
  std::vector<uint32_t> piece_of_;
  std::vector<PlannedPiece> pieces_;
  std::vector<bool> taken_;
};

}  // namespace

PiecePlanner::PiecePlanner(std::vector<std::shared_ptr<const index::LayerIndex>> layers)
    : layers_(std::move(layers)) {
  for (const auto& layer : layers_) {
    const auto same = std::find_if(layers_.begin(), layers_.end(), [&](const auto& other) {
      return other->diff_id == layer->diff_id;
    });
    first_of_diff_id_.push_back(static_cast<uint32_t>(same - layers_.begin()));
    wanted_.emplace_back(layer->spans.size(), false);
  }
}

void PiecePlanner::add_tar(uint32_t layer, uint64_t begin, uint64_t end) {
  if (layer >= layers_.size()) return;
  layer = first_of_diff_id_[layer];
  const index::LayerIndex& index = *layers_[layer];
  end = std::min(end, index.tar_size);
  if (begin >= end) return;
  for (size_t span = index.span_at(begin); span < index.spans.size(); ++span) {
    if (index.spans[span].uncompressed_begin >= end) break;
    if (wanted_[layer][span]) continue;
    wanted_[layer][span] = true;
    order_.push_back({layer, static_cast<uint32_t>(span)});
  }
}

void PiecePlanner::add_file(const tree::Tree& tree, tree::InodeId inode, uint64_t begin,
                            uint64_t end) {
  const tree::Content content = tree.content(inode);
  for (const index::Region& region : content.regions) {
    const uint64_t from = std::max(begin, region.file_offset);
    const uint64_t to = std::min(end, region.file_offset + region.length);
    if (from >= to) continue;
    const auto range = tree.layers()[content.layer].layout->tar_range(
        region.data_offset + (from - region.file_offset), to - from);
    if (range) add_tar(content.layer, range->begin, range->end);
  }
}

std::vector<PlannedPiece> PiecePlanner::pieces() const {
  std::vector<LayerPieces> layers;
  for (uint32_t i = 0; i < layers_.size(); ++i) {
    layers.emplace_back(i, *layers_[i], wanted_[i]);
  }
  std::vector<PlannedPiece> out;
  for (const Read& read : order_) {
    if (out.size() >= kMaxPackPieces) break;
    if (const PlannedPiece* piece = layers[read.layer].take(read.span)) out.push_back(*piece);
  }
  return out;
}

}  // namespace pagein::startup
