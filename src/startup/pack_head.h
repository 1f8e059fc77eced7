// The head of a startup pack: which spans of which layers a start needs, in
// which order, and which of them the pack holds (docs/formats/startup-pack.md).
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"

namespace pagein::startup {

// A run of adjacent spans of one layer.
struct Piece {
  uint32_t layer = 0;  // number in PackHead::diff_ids
  uint32_t first_span = 0;
  uint32_t span_count = 0;
  uint32_t stored_size = 0;  // bytes of its frame; 0: to be fetched from the layer itself
  bool operator==(const Piece&) const = default;
};

// Invariants (of what parse_pack_head() gives, so nobody checks again; what is
// written has to have them):
//  H1 layers are different from each other and numbered in the order in which
//     pieces first name them; each is named.
//  H2 span_count >= 1 and first_span + span_count <= kMaxSpanNumber. Whether the
//     layer has so many spans only its index says: the reader of the pack checks.
//  H3 no span of a layer is in two pieces.
//  H4 stored_size <= kMaxStoredPiece, blob_size() <= kMaxPackBytes.
struct PackHead {
  std::vector<oci::Digest> diff_ids;
  std::vector<Piece> pieces;  // in the order the start needs them
  uint64_t head_size = 0;     // the frames of stored pieces follow, in the same order

  // Of the whole pack, bytes.
  uint64_t blob_size() const;
};

// `head` is all that comes before the frames, exactly. corrupt_input: broken or
// hostile; unsupported: a newer version.
Result<PackHead> parse_pack_head(ByteView head);

// Sets head->head_size and returns the head's bytes. The pack is this, then the
// frames. invalid_argument where H1 to H4 do not hold.
Result<Bytes> write_pack_head(PackHead* head);

}  // namespace pagein::startup
