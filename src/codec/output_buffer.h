// The uncompressed side of a decoder: a sliding buffer that keeps the history
// which matches refer to, and what has not been given to the sink yet.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>

#include "base/file.h"
#include "codec/window_references.h"

namespace pagein::codec {

// DEFLATE refers back 32 KiB at most (RFC 1951, section 2).
inline constexpr size_t kWindowBytes = 32 << 10;

// Room that a decoder may use beyond the limit it was given: it looks at the
// limit between symbols only, and copies in whole words.
inline constexpr size_t kOutputSlack = 512;

// Positions are pointers into the buffer, until slide() moves everything.
// Thread-compatible. Invariant: data <= history <= next <= limit_end.
struct OutputBuffer {
  explicit OutputBuffer(size_t bytes)
      : storage(std::make_unique<uint8_t[]>(bytes + kOutputSlack)),
        next(storage.get()),
        history(storage.get()),
        limit_end(storage.get() + bytes) {}

  std::unique_ptr<uint8_t[]> storage;
  uint8_t* next;           // where the next byte goes
  const uint8_t* history;  // matches may not reach before it
  uint8_t* limit_end;      // no limit may be beyond it
  uint64_t offset = 0;     // uncompressed offset of the buffer's first byte
  WindowReferences references;

  uint8_t* data() { return storage.get(); }
  uint64_t next_offset() const { return offset_of(next); }
  uint64_t offset_of(const uint8_t* at) const {
    return offset + static_cast<uint64_t>(at - storage.get());
  }
  const uint8_t* at(uint64_t uncompressed_offset) const {
    return storage.get() + (uncompressed_offset - offset);
  }

  // Forgets everything; the next byte has this uncompressed offset.
  void restart(uint64_t uncompressed_offset) {
    next = storage.get();
    history = next;
    offset = uncompressed_offset;
    references.stop();
  }

  // Moves the bytes from `keep` on (keep <= next) to the buffer's front.
  // Returns by how much all positions moved down.
  size_t slide(const uint8_t* keep) {
    const auto shift = static_cast<size_t>(keep - storage.get());
    if (shift == 0) return 0;
    std::memmove(storage.get(), keep, static_cast<size_t>(next - keep));
    next -= shift;
    history = history < keep ? storage.get() : history - shift;
    offset += shift;
    references.slide(shift);
    return shift;
  }
};

}  // namespace pagein::codec
