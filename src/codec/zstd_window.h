// The history of a zstd frame, and which of it is referred to by what follows
// a place.
#pragma once

#include <cstdint>
#include <vector>

#include "base/file.h"
#include "codec/zstd_memory.h"

namespace pagein::codec {

// A run of bytes before a checkpoint.
struct WindowRun {
  uint64_t distance = 0;  // of its first byte, before the checkpoint
  uint64_t length = 0;
};

// Between record() and take(), touch() keeps what a match behind the boundary
// copies from before it. (In units of 4 or 8 bytes, the runs' places took less,
// but what came with them more.)
//
// Thread-compatible. Memory: twice the window, of which only what is used is
// there, and a bit for each of its bytes.
class ZstdWindow {
 public:
  // Nothing before `offset` can be referred to.
  void begin_frame(uint64_t offset, uint64_t window);
  // The next bytes of the frame.
  void append(ByteView bytes);

  void record(uint64_t boundary);
  void stop() { boundary_ = 0; }
  // A match copies `length` bytes from `source`, an offset in the tar within the
  // window, and not beyond what was appended where that is before the boundary.
  void touch(uint64_t source, uint64_t length) {
    if (source < boundary_) keep(source, length);
  }
  uint64_t end() const { return end_; }
  uint64_t kept_bytes() const { return kept_; }
  // Runs from the farthest one on, and their bytes.
  std::vector<WindowRun> take(Bytes* bytes) const;

 private:
  void keep(uint64_t source, uint64_t length);
  void mark(uint64_t first, uint64_t last);

  ZeroedMemory history_;  // by offset, modulo its size
  ZeroedMemory saved_;    // the same places
  uint64_t size_ = 0;     // a power of two
  uint64_t end_ = 0;
  uint64_t boundary_ = 0;  // 0: not recording
  uint64_t kept_ = 0;
  std::vector<uint64_t> known_;  // a bit per byte, by distance - 1
};

}  // namespace pagein::codec
