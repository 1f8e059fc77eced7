// From a piece's frame in a startup pack to the tar bytes of its spans.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace pagein::startup {

// One object serves any number of pieces one after the other, and should: it
// keeps its buffers (the piece's length, at most kMaxPieceBytes, and some 100
// KiB). Never blocks. Thread-compatible.
class PieceDecoder {
 public:
  PieceDecoder();
  ~PieceDecoder();
  PieceDecoder(PieceDecoder&&) noexcept;
  PieceDecoder& operator=(PieceDecoder&&) noexcept;

  // `frame` is Piece::stored_size bytes of the pack, `span_sizes` the bytes of
  // tar of each of the piece's spans, by the layer's index. The views are good
  // until the next call. Hostile frames give corrupt_input or wrong bytes, never
  // more: the caller verifies each span's digest. corrupt_input too where the
  // spans together have more than kMaxPieceBytes, or another length than the frame.
  Result<std::vector<ByteView>> decode(ByteView frame, std::span<const uint64_t> span_sizes);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace pagein::startup
