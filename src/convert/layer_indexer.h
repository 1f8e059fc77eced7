// Indexes one layer in one streaming pass.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/byte_stream.h"
#include "base/result.h"
#include "index/layer_index_builder.h"
#include "oci/descriptor.h"

namespace pagein::convert {

struct IndexLayerOptions {
  uint64_t spacing = 256 << 10;  // wanted bytes of tar between checkpoints
  // What checkpoints inside zstd frames may take together, in ten-thousandths of
  // the layer: as many are put as fit.
  uint32_t payload_share = 375;
  // Compressed bytes read so far; on the calling thread, often.
  std::function<void(uint64_t)> progress;
  // Set by whoever wants it to stop: it ends with `cancelled`.
  const std::atomic<bool>* stop = nullptr;
};

struct IndexedLayer {
  index::EncodedIndex index;
  index::LayerFacts facts;
  size_t spans = 0;
  size_t files = 0;        // entries of the file table
  uint64_t share() const;  // of the index, in ten-thousandths of the layer
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

// The same where the index of a layer with checkpoints inside zstd frames may
// take only `max_share` ten-thousandths of it. The layer is read twice at most.
//   unsupported: it would take more, however far apart the checkpoints.
using BlobOpener = std::function<Result<std::unique_ptr<ByteStream>>()>;
inline constexpr uint32_t kDefaultIndexShare = 500;
Result<IndexedLayer> index_layer_within(const BlobOpener& open, const oci::Descriptor& layer,
                                        const oci::Digest& diff_id, uint32_t max_share,
                                        IndexLayerOptions options);

}  // namespace pagein::convert
