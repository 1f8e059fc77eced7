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

// S1 the first span begins at 0, begins ascend strictly, all are < tar_size
//    (so there are spans if and only if tar_size > 0).
// S2 compressed positions ascend strictly, and lie within the layer blob.
// S3 a span's kind is one of its encoding; payloads are only with the kinds
//    that have one, at most codec::kMaxPayloadBytes long, one after the other.
// S4 in a plain tar compressed and uncompressed positions are the same.
// corrupt_input if not.
Status check_spans(std::span<const Span> spans, const SpanTableLimits& limits);

Bytes write_span_table(std::span<const Span> spans);

// As many spans as `digests` has pieces of 32 bytes; those are their digests.
Result<std::vector<Span>> parse_span_table(ByteView bytes, ByteView digests,
                                           const SpanTableLimits& limits);

}  // namespace pagein::index
