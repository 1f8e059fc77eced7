// A sequential source of bytes that is pulled: a blob, a file, a decoder.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"

namespace pagein {

// One reader at a time; may block. After an error or the end, read() repeats
// that outcome.
class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // Between 1 and out.size() bytes into `out`; 0 means the end. `out` is not
  // empty.
  virtual Result<size_t> read(std::span<uint8_t> out) = 0;
};

}  // namespace pagein
