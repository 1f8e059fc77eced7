// Makes startup packs of test layers. For tests only.
#pragma once

#include <vector>

#include "index/test_layer.h"
#include "startup/pack_head.h"
#include "startup/pack_location.h"
#include "startup/piece_encoder.h"

namespace pagein::fetch::testing {

using index::testing::must;
using index::testing::TestLayer;

// What a pack has of the layers, in order.
struct TestPiece {
  const TestLayer* layer = nullptr;
  uint32_t first_span = 0;
  uint32_t span_count = 1;
  bool stored = true;
  // Not the layer's bytes, but as many.
  bool wrong = false;
};

struct TestPack {
  Bytes blob;
  startup::PackHead head;
  startup::PackLocation location;
  // Where the frame of this piece starts and ends in the blob.
  uint64_t begin_of(size_t piece) const {
    uint64_t at = head.head_size;
    for (size_t i = 0; i < piece; ++i) at += head.pieces[i].stored_size;
    return at;
  }
  uint64_t end_of(size_t piece) const { return begin_of(piece + 1); }
};

inline TestPack make_test_pack(const std::vector<TestPiece>& pieces) {
  TestPack pack;
  Bytes frames;
  startup::PieceEncoder encoder(3);
  std::vector<oci::Digest>& layers = pack.head.diff_ids;
  for (const TestPiece& piece : pieces) {
    const index::LayerIndex& index = *piece.layer->index;
    auto layer = std::find(layers.begin(), layers.end(), index.diff_id);
    if (layer == layers.end()) layer = layers.insert(layer, index.diff_id);
    startup::Piece row;
    row.layer = static_cast<uint32_t>(layer - layers.begin());
    row.first_span = piece.first_span;
    row.span_count = piece.span_count;
    if (piece.stored) {
      Bytes tar;
      for (uint32_t i = 0; i < piece.span_count; ++i) {
        const ByteView span = piece.layer->span(piece.first_span + i);
        tar.insert(tar.end(), span.begin(), span.end());
      }
      if (piece.wrong) tar.front() ^= 1;
      const ByteView frame = must(encoder.encode(tar));
      row.stored_size = static_cast<uint32_t>(frame.size());
      frames.insert(frames.end(), frame.begin(), frame.end());
    }
    pack.head.pieces.push_back(row);
  }
  pack.blob = must(startup::write_pack_head(&pack.head));
  pack.location.head_size = pack.blob.size();
  pack.location.head_digest = oci::Digest::of(pack.blob);
  pack.blob.insert(pack.blob.end(), frames.begin(), frames.end());
  pack.location.size = pack.blob.size();
  pack.location.digest = oci::Digest::of(pack.blob);
  return pack;
}

}  // namespace pagein::fetch::testing
