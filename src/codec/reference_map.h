// Which bytes of a window are referred to by what follows it.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

namespace pagein::codec {

// Marks, byte by byte, what matches behind a boundary take from before it.
// The marks are of the 32 KiB that end at the boundary. Thread-compatible.
class ReferenceMap {
 public:
  static constexpr size_t kBytes = 32 << 10;

  // From now on mark what reaches before `boundary` (a position in the output
  // buffer).
  void start(const uint8_t* boundary) {
    marks_.fill(0);
    boundary_ = boundary;
    any_ = false;
  }
  void stop() { boundary_ = nullptr; }
  bool active() const { return boundary_ != nullptr; }
  const uint8_t* boundary() const { return boundary_; }
  void slide(size_t shift) {
    if (active()) boundary_ -= shift;
  }

  // A match copies `length` bytes from `source` (at most 32 KiB before
  // whatever follows the boundary, so never more before the boundary).
  void mark(const uint8_t* source, size_t length) {
    if (source >= boundary_) return;
    const auto before = static_cast<size_t>(boundary_ - source);
    any_ = true;
    std::memset(marks_.data() + (kBytes - before), 1, length < before ? length : before);
  }

  bool any() const { return any_; }
  const std::array<uint8_t, kBytes>& marks() const { return marks_; }

 private:
  const uint8_t* boundary_ = nullptr;
  bool any_ = false;
  std::array<uint8_t, kBytes> marks_{};
};

}  // namespace pagein::codec
