// The first bytes of a stream.
#pragma once

#include "base/byte_stream.h"

namespace pagein::convert {

// Reads until `out` holds `least` bytes or the stream ends; how many it holds.
inline Result<size_t> read_at_least(ByteStream& stream, std::span<uint8_t> out, size_t least) {
  size_t filled = 0;
  while (filled < least) {
    ASSIGN_OR_RETURN(const size_t n, stream.read(out.subspan(filled)));
    if (n == 0) break;
    filled += n;
  }
  return filled;
}

}  // namespace pagein::convert
