// From the tar bytes of a piece's spans to its frame in a startup pack.
#pragma once

#include <memory>

#include "base/file.h"
#include "base/result.h"

namespace pagein::startup {

// Deterministic: the same bytes, level and libzstd give the same frame. Keep
// it for many pieces. Never blocks. Thread-compatible.
class PieceEncoder {
 public:
  // zstd's levels; invalid ones are clamped by libzstd.
  explicit PieceEncoder(int level);
  ~PieceEncoder();
  PieceEncoder(PieceEncoder&&) noexcept;
  PieceEncoder& operator=(PieceEncoder&&) noexcept;

  // `tar`: 1 to kMaxPieceBytes bytes. The view is good until the next call.
  Result<ByteView> encode(ByteView tar);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace pagein::startup
