// Columns of variable-length integers and strings: the inside of the files and
// spans sections (docs/formats/layer-index.md, "Columns").
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/file.h"

namespace pagein::index {

constexpr uint64_t zigzag(int64_t v) {
  return (static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63);
}
constexpr int64_t unzigzag(uint64_t v) {
  return static_cast<int64_t>(v >> 1) ^ -static_cast<int64_t>(v & 1);
}

// A cursor over a column it does not own. After a read beyond the end, or of a
// malformed integer, ok() is false for good and every read gives 0 or "". So a
// loop over millions of values checks once per row or at its end. (ByteReader
// builds an Error per read: too slow for this.) Thread-compatible.
class ColumnReader {
 public:
  ColumnReader() = default;
  explicit ColumnReader(ByteView bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}

  bool ok() const { return ok_; }
  bool complete() const { return ok_ && at_ == end_; }
  size_t remaining() const { return static_cast<size_t>(end_ - at_); }

  uint8_t u8() {
    if (at_ == end_) return static_cast<uint8_t>(fail());
    return *at_++;
  }
  // LEB128, as ByteReader::varint().
  uint64_t varint() {
    if (at_ != end_ && *at_ < 0x80) return *at_++;
    return long_varint();
  }
  // As varint(); beyond 32 bits is malformed.
  uint32_t varint32() {
    const uint64_t value = varint();
    return value >> 32 == 0 ? static_cast<uint32_t>(value) : static_cast<uint32_t>(fail());
  }
  // Up to the next NUL, which is consumed.
  std::string_view text() {
    const void* nul = at_ == end_ ? nullptr : std::memchr(at_, 0, remaining());
    if (nul == nullptr) {
      fail();
      return {};
    }
    const auto* begin = at_;
    at_ = static_cast<const uint8_t*>(nul) + 1;
    return as_text({begin, static_cast<size_t>(at_ - begin - 1)});
  }
  ByteView bytes(uint64_t count) {
    if (count > remaining()) {
      fail();
      return {};
    }
    const ByteView view(at_, static_cast<size_t>(count));
    at_ += count;
    return view;
  }
  uint64_t fail() {
    ok_ = false;
    at_ = end_;
    return 0;
  }

 private:
  uint64_t long_varint();

  const uint8_t* at_ = nullptr;
  const uint8_t* end_ = nullptr;
  bool ok_ = true;
};

}  // namespace pagein::index
