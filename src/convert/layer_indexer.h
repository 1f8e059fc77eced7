// Indexes one layer in one streaming pass.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "base/byte_stream.h"
#include "base/result.h"
#include "index/layer_index_builder.h"
#include "oci/descriptor.h"

namespace pagein::convert {

struct IndexLayerOptions {
  uint64_t spacing = 256 << 10;  // wanted bytes of tar between checkpoints
  // Compressed bytes read so far; on the calling thread, often.
  std::function<void(uint64_t)> progress;
  // Set by whoever wants it to stop: it ends with `cancelled`.
  const std::atomic<bool>* stop = nullptr;
};

struct IndexedLayer {
  index::EncodedIndex index;
  index::LayerFacts facts;
  size_t spans = 0;
  size_t files = 0;  // entries of the file table
};

// `blob` yields the layer's bytes and fails at its end if they do not have the
// descriptor's digest (registry::VerifyingStream). Decoding happens on the
// calling thread, hashing and reading the tar on one more. Memory: the index
// itself and a few MiB.
//   corrupt_input: the blob is not what its descriptor, its format or `diff_id` say.
//   unsupported: an encoding or a tar that cannot be indexed; such a layer is
//     left to be loaded the ordinary way.
Result<IndexedLayer> index_layer(ByteStream& blob, const oci::Descriptor& layer,
                                 const oci::Digest& diff_id, const IndexLayerOptions& options);

}  // namespace pagein::convert
