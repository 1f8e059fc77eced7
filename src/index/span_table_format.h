// The spans section of the layer index, before compression, and the digests
// section (docs/formats/layer-index.md, "spans", "digests").
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "index/layer_index.h"

namespace pagein::index {

inline constexpr uint64_t kMaxSpans = 16 << 20;

// What spans are checked against.
struct SpanTableLimits {
  codec::Encoding encoding{};
  uint64_t tar_size = 0;
  uint64_t layer_size = 0;
};

// Invariants S1 to S4 of layer_index.h; corrupt_input if one is broken.
Status check_spans(std::span<const Span> spans, const SpanTableLimits& limits);

Bytes write_span_table(std::span<const Span> spans);

// As many spans as `digests` has pieces of 32 bytes; those are their digests.
Result<std::vector<Span>> parse_span_table(ByteView bytes, ByteView digests,
                                           const SpanTableLimits& limits);

}  // namespace pagein::index
