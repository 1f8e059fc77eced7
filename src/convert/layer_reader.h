// Reads spans of a layer where it lies, through its index, and verifies them.
#pragma once

#include <memory>
#include <optional>

#include "base/result.h"
#include "codec/span_decoder.h"
#include "index/index_location.h"
#include "index/layer_index.h"
#include "registry/blob_source.h"
#include "registry/read_range.h"

namespace pagein::convert {

// A layer and its index, and where to read both.
struct LayerAccess {
  std::shared_ptr<const index::LayerIndex> index;
  std::shared_ptr<registry::BlobSource> layer;        // has the blob that the index is of
  std::shared_ptr<registry::BlobSource> checkpoints;  // has the index blob
  index::IndexLocation location;
};

// An index may come from anybody: what it asks for is bounded. Far above what
// spans of any spacing have.
inline constexpr uint64_t kMaxRunBytes = 64 << 20;

// Adjacent spans on their way: the reads begin at once, so that several runs can
// be under way side by side.
class PendingSpans {
 public:
  // `count` >= 1 spans, all of the index; `layer` must outlive it. unsupported
  // where they have more than kMaxRunBytes, of tar, compressed, or of
  // checkpoints.
  static Result<PendingSpans> begin(const LayerAccess& layer, size_t first, size_t count);

  // The spans' bytes of tar, one after the other. Blocks; once. corrupt_input
  // where they do not have the digests of the index; unsupported where the source
  // cannot give ranges, or a frame is not for a node to decode.
  Result<Bytes> wait(codec::SpanStream& decoder);

 private:
  PendingSpans(const LayerAccess& layer, size_t first, size_t count);

  const LayerAccess& layer_;
  size_t first_;
  size_t count_;
  registry::PendingRead compressed_;
  std::optional<registry::PendingRead> payloads_;
};

}  // namespace pagein::convert
