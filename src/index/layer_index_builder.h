// Writes a layer index.
#pragma once

#include <cstdint>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "index/layer_index.h"

namespace pagein::index {

// What is known of the layer once all of it has been read.
struct LayerFacts {
  codec::Encoding encoding{};
  oci::Digest layer_digest;
  uint64_t layer_size = 0;
  oci::Digest diff_id;
  uint64_t tar_size = 0;
  uint64_t span_spacing = 0;  // the wanted one, for information
};

// The blob is `head` followed by `checkpoints`.
struct EncodedIndex {
  Bytes head;
  Bytes checkpoints;
};

// Spans in order of the tar, then finish() once. Keeps the payloads, nothing
// else that grows. Deterministic: the same calls give the same bytes (with the
// same libzstd). Thread-compatible.
class LayerIndexBuilder {
 public:
  // A span that begins at `uncompressed_begin`; its digest covers what lies up
  // to the next one, or to the end of the tar. `payload` is copied.
  void add_span(uint64_t uncompressed_begin, const codec::StartPoint& start, ByteView payload,
                const Sha256Bytes& digest);

  // corrupt_input if spans, files and facts do not fit together; exhausted if
  // the index would exceed the format's limits.
  Result<EncodedIndex> finish(const LayerFacts& facts, const FileTable& files);

 private:
  std::vector<Span> spans_;
  Bytes checkpoints_;
};

}  // namespace pagein::index
