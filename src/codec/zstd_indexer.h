// The SpanIndexer of zstd layers.
#pragma once

#include <cstdint>
#include <optional>

#include "codec/span_indexer.h"
#include "codec/zstd_frames.h"

namespace pagein::codec {

// Accepts what zstd(1) does: frames, with skippable ones before, between and
// behind them (seek tables, zstd:chunked's table of contents).
//
// Spans begin at frames only, at the first one that comes at least half the
// spacing behind the last checkpoint. Layers whose frames are longer than spans
// may be (one single frame is what most encoders write) end with
// `unsupported`, unless the limit allows for them.
class ZstdIndexer final : public SpanIndexer {
 public:
  static constexpr uint64_t kUnlimited = UINT64_MAX;
  ZstdIndexer(uint64_t spacing, uint64_t max_span, IndexSink& sink);
  Status feed(ByteView compressed) override;
  Result<IndexSummary> finish() override;

 private:
  Status on_output(ByteView piece);

  const uint64_t earliest_;
  const uint64_t max_span_;
  IndexSink& sink_;
  ZstdFrames frames_;
  Bytes piece_;
  std::optional<uint64_t> frame_;  // where the frame began that has given nothing yet
  uint64_t last_ = 0;              // tar offset of the last checkpoint taken
  IndexSummary summary_;
};

}  // namespace pagein::codec
