// The bytes of a window that are referred to by what follows it.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "base/file.h"

namespace pagein::codec {

// Of the 32 KiB before a checkpoint, matches behind it refer to some 3 KB.
// Which ones need not be stored: whoever decodes the same data comes upon the
// same references in the same order. So a sparse window is just the bytes in
// the order in which they are first referred to. record() gathers them,
// replay() puts them back at the moment they are needed.
//
// Between start and stop, the decoder calls touch() before it copies a match.
// Thread-compatible.
class WindowReferences {
 public:
  static constexpr size_t kWindow = 32 << 10;

  // Gather what is referred to before `boundary`, a position in the output
  // buffer.
  void record(const uint8_t* boundary) {
    begin(boundary);
    bytes_.clear();
    recording_ = true;
  }
  // Write what is referred to before `boundary` into the window there (32 KiB
  // of zeros to begin with). `bytes` is not owned.
  void replay(uint8_t* boundary, ByteView bytes) {
    begin(boundary);
    window_ = boundary - kWindow;
    replayed_ = bytes;
    recording_ = false;
    missing_ = false;
  }
  void stop() { boundary_ = nullptr; }
  bool active() const { return boundary_ != nullptr; }
  void slide(size_t shift) {
    if (!active()) return;
    boundary_ -= shift;
    if (!recording_) window_ -= shift;
  }

  // A match copies `length` bytes from `source`, which is at most 32 KiB
  // before the boundary.
  void touch(const uint8_t* source, size_t length) {
    if (source >= boundary_) return;
    const auto before = static_cast<size_t>(boundary_ - source);
    touch_window(kWindow - before, length < before ? length : before);
  }

  // What was recorded.
  const Bytes& bytes() const { return bytes_; }
  // Bytes were referred to that the replayed ones did not include (they read
  // as zeros).
  bool missing() const { return missing_; }

 private:
  void begin(const uint8_t* boundary) {
    known_.fill(0);
    boundary_ = boundary;
  }
  void touch_window(size_t at, size_t length);

  const uint8_t* boundary_ = nullptr;
  bool recording_ = false;
  bool missing_ = false;
  uint8_t* window_ = nullptr;  // replaying: its first byte
  ByteView replayed_;          // what is left
  Bytes bytes_;
  std::array<uint8_t, kWindow> known_{};
};

}  // namespace pagein::codec
