// Decodes spans from a checkpoint, without anything before it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/file.h"
#include "base/result.h"
#include "codec/checkpoint.h"
#include "codec/span_indexer.h"

namespace pagein::codec {

// Decodes one span, or a run of adjacent spans from the first one's
// checkpoint alone, as its compressed bytes arrive. Goes on across block,
// gzip member and zstd frame boundaries. One object may serve any number of
// spans one after the other, and should: it owns some 500 KiB of buffers, and
// up to 8 MiB more where a zstd frame's window is that long (unsupported beyond).
// While a span inside a zstd frame is under way, it has its length and its
// window (at most 128 MiB, of which only what is referred to is there) besides.
// A run may not go on into such a span (can_go_on).
//
// Assumes nothing about payload and compressed bytes: hostile ones give
// corrupt_input or wrong bytes (the caller verifies SHA-256; member CRCs are
// not looked at), never a read or write out of bounds. Never blocks.
// Thread-compatible.
class SpanStream {
 public:
  SpanStream();
  ~SpanStream();
  SpanStream(SpanStream&&) noexcept;
  SpanStream& operator=(SpanStream&&) noexcept;

  // Begins a span, or a run of spans, of `length` bytes of tar; forgets
  // whatever was going on. start.payload is not needed after the call.
  // corrupt_input if the payload is malformed.
  Status start(const SpanStart& start, uint64_t length);

  // The next compressed bytes, the first ones from first_byte(compressed_bit);
  // all are consumed, and all that can be decoded from them is given to the
  // sink. Bytes beyond what `length` needs are ignored. After an error, the
  // next call must be start().
  Status feed(ByteView compressed, OutputSink& sink);

  // All `length` bytes have been given to the sink.
  bool done() const;
  uint64_t produced() const;

  // The same in one call, straight for the caller: `compressed` covers the
  // span (checkpoint.h says which bytes) and `out` is filled exactly.
  // corrupt_input if `compressed` ends early.
  Status decode(const SpanStart& start, ByteView compressed, std::span<uint8_t> out);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pagein::codec
