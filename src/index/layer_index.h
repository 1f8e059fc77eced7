// The layer index: what makes a layer blob randomly readable
// (docs/formats/layer-index.md). `head` holds everything but the checkpoint
// payloads; a node reads the head in one range and payloads when it needs them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "codec/checkpoint.h"
#include "index/data_layout.h"
#include "index/file_table.h"
#include "oci/digest.h"

namespace pagein::index {

// Spans partition the uncompressed tar: span i is [uncompressed_begin,
// next span's uncompressed_begin), the last ends at tar_size. Invariants
// (established by LayerIndexBuilder and by parse_head, so nobody checks again):
//  S1 the first span begins at 0, begins ascend strictly, all are < tar_size
//     (so there are spans if and only if tar_size > 0).
//  S2 compressed positions ascend strictly, and lie within the layer blob.
//  S3 a span's kind is one of its layer's encoding; members, frames and their
//     blocks start at whole bytes; payloads are only with the kinds that have one,
//     at most codec::max_payload_bytes long, one after the other.
//  S4 in a plain tar compressed and uncompressed positions are the same.
struct Span {
  uint64_t uncompressed_begin = 0;
  codec::StartPoint start;
  // The payload (sparse window) in the checkpoints section; size 0: none.
  uint64_t payload_offset = 0;
  uint32_t payload_size = 0;
  Sha256Bytes digest{};  // of the span's uncompressed bytes
};

// Immutable once parsed or built; share by shared_ptr<const>.
struct LayerIndex {
  codec::Encoding encoding{};
  oci::Digest layer_digest;   // of the layer blob as it is in the registry
  uint64_t layer_size = 0;    // of that blob, bytes
  oci::Digest diff_id;        // of the uncompressed tar
  uint64_t tar_size = 0;      // bytes
  uint64_t span_spacing = 0;  // bytes of tar wanted per span, for information
  FileTable files;
  DataLayout layout;
  std::vector<Span> spans;
  uint64_t head_size = 0;         // the payloads start here in the blob
  uint64_t checkpoints_size = 0;  // bytes of payloads

  uint64_t span_end(size_t i) const {
    return i + 1 < spans.size() ? spans[i + 1].uncompressed_begin : tar_size;
  }
  // The span that holds the uncompressed offset (< tar_size).
  size_t span_at(uint64_t uncompressed_offset) const;
};

// Caps (named in the format document) are checked before allocation.
// corrupt_input: broken or hostile; unsupported: a newer version.
Result<std::shared_ptr<const LayerIndex>> parse_head(ByteView head);

}  // namespace pagein::index
