// From what a start reads, in order, to the pieces of its startup pack.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "index/layer_index.h"
#include "startup/pack_head.h"
#include "tree/tree.h"

namespace pagein::startup {

// A run of wanted spans that is at least this long is left to ranged requests of
// the layer: one request brings this much as well as the pack would, and the
// pack stays small. Bytes of tar, not of what is compressed, so that a pack does
// not depend on the layers' encoding. Below kMaxPieceBytes.
inline constexpr uint64_t kLongRun = 3 << 20;

struct PlannedPiece {
  uint32_t layer = 0;  // of those the planner was given
  uint32_t first_span = 0;
  uint32_t span_count = 0;
  uint64_t tar_bytes = 0;
  bool scattered = false;  // to be stored; else a part of a long run
};

// Reads are told in order; each span is taken at the first. Pieces are runs of
// adjacent spans that were asked for at any time, in the order of their first
// read; long runs are cut into pieces of about kLongRun, so that early reads do
// not wait for late ones. Thread-compatible. Memory: some bytes per span.
class PiecePlanner {
 public:
  // Lowest first. Where trees are used, those of the trees, in the same order.
  // Of layers with one diffID the first stands for all.
  explicit PiecePlanner(std::vector<std::shared_ptr<const index::LayerIndex>> layers);

  // [begin, end) of the layer's tar; cut to the tar's end.
  void add_tar(uint32_t layer, uint64_t begin, uint64_t end);
  // [begin, end) of a file's content, or all of it.
  void add_file(const tree::Tree& tree, tree::InodeId inode, uint64_t begin = 0,
                uint64_t end = UINT64_MAX);

  // At most kMaxPackPieces, the first ones. May be called again after more reads.
  std::vector<PlannedPiece> pieces() const;

 private:
  struct Read {
    uint32_t layer;
    uint32_t span;
  };
  std::vector<std::shared_ptr<const index::LayerIndex>> layers_;
  std::vector<uint32_t> first_of_diff_id_;  // by layer
  std::vector<std::vector<bool>> wanted_;   // by layer and span
  std::vector<Read> order_;                 // each wanted span once
};

}  // namespace pagein::startup
