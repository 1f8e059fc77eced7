// How a span's tar bytes are spread over a layer's files, and back.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "index/layer_index.h"

namespace pagein::store {

// Maps tar offsets to offsets in `rest`: the tar without its files' contents.
// Immutable; thread-safe.
class RestLayout {
 public:
  explicit RestLayout(const index::LayerIndex& index);
  // Of the tar byte where the span begins, counting only bytes outside extents.
  uint64_t rest_begin(size_t span) const { return begin_[span]; }

 private:
  std::vector<uint64_t> begin_;
};

struct SpanFiles {
  int data_fd;
  int rest_fd;  // -1: do not touch
};

// `tar` is the whole span. Writes into data (and rest); returns the checksum
// of what went to data (XXH3-128, 16 bytes little-endian).
using SpanSum = std::array<uint8_t, 16>;
Result<SpanSum> write_span_bytes(const index::LayerIndex& index, const RestLayout& rest,
                                 size_t span, ByteView tar, SpanFiles files);
// Fills `tar` (the whole span) from data and rest.
Status read_span_bytes(const index::LayerIndex& index, const RestLayout& rest, size_t span,
                       std::span<uint8_t> tar, SpanFiles files);
// The checksum of what is in data for this span.
Result<SpanSum> sum_span_bytes(const index::LayerIndex& index, size_t span, int data_fd);

}  // namespace pagein::store
