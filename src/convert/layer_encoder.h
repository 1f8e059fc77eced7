// Re-encodes one layer in one streaming pass.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/byte_stream.h"
#include "base/result.h"
#include "convert/encode_pool.h"
#include "index/layer_index_builder.h"
#include "oci/digest.h"
#include "registry/repository.h"

namespace pagein::convert {

struct EncodeLayerOptions {
  uint64_t chunk = 256 << 10;  // wanted bytes of tar in a chunk
  size_t chunks_in_flight = 8;
  // Compressed bytes read so far; on the calling thread, often.
  std::function<void(uint64_t)> progress;
  // Set by whoever wants it to stop: it ends with `cancelled`.
  const std::atomic<bool>* stop = nullptr;
};

// One encoding to be made: the pool's of the same number.
struct EncodeTarget {
  codec::Encoding encoding = codec::Encoding::gzip;
  registry::BlobWriter* writer = nullptr;  // not owned; fresh
};

struct EncodedLayer {
  index::LayerFacts facts;  // of the blob that was made
  index::EncodedIndex index;
};

struct EncodedLayers {
  std::vector<EncodedLayer> targets;  // as they were asked for
  uint64_t tar_size = 0;
  size_t spans = 0;
  size_t files = 0;  // entries of the file table
};

// `blob` yields the layer's bytes, of any encoding, and fails at its end if they
// do not have the layer's digest (registry::VerifyingStream). All targets get
// the same chunks. The writers are committed once the whole blob was verified and
// the tar has `diff_id`; after an error they are of no more use. Decoding
// happens on the calling thread, reading the tar and writing on one each,
// compressing in the pool. Memory: the indexes, the chunks in flight and a few
// MiB. Blocks.
//   corrupt_input: the blob is not what its digest, its format or `diff_id` say.
//   unsupported: a tar or frames that this cannot read; such a layer is left.
//   Else what the writers say.
Result<EncodedLayers> encode_layer(ByteStream& blob, const oci::Digest& diff_id, EncodePool& pool,
                                   const std::vector<EncodeTarget>& targets,
                                   const EncodeLayerOptions& options);

}  // namespace pagein::convert
