// Bounds-checked reading of untrusted bytes.
#pragma once

#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/endian.h"
#include "base/file.h"
#include "base/result.h"

namespace pagein {

// A cursor over bytes it does not own (they must outlive it). Every read
// checks; an error is corrupt_input naming `what` and the offset.
// Thread-compatible.
class ByteReader {
 public:
  ByteReader(ByteView bytes, std::string_view what) : bytes_(bytes), what_(what) {}

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }
  bool at_end() const { return remaining() == 0; }

  Result<ByteView> take(uint64_t count) {
    if (count > remaining()) {
      return Error(Code::corrupt_input, std::string(what_) + ": needs " + std::to_string(count) +
                                            " bytes at offset " + std::to_string(offset_) +
                                            ", has " + std::to_string(remaining()));
    }
    ByteView view = bytes_.subspan(offset_, static_cast<size_t>(count));
    offset_ += static_cast<size_t>(count);
    return view;
  }
  Result<uint8_t> u8() { return integer<uint8_t>(); }
  Result<uint16_t> u16() { return integer<uint16_t>(); }
  Result<uint32_t> u32() { return integer<uint32_t>(); }
  Result<uint64_t> u64() { return integer<uint64_t>(); }

  // LEB128, at most 10 bytes, canonical (no redundant zero groups).
  Result<uint64_t> varint();

  // A packed structure of Le<> members and byte arrays.
  template <typename T>
  Result<T> structure() {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) == 1);
    ASSIGN_OR_RETURN(ByteView view, take(sizeof(T)));
    T value;
    std::memcpy(&value, view.data(), sizeof(T));
    return value;
  }

 private:
  template <typename T>
  Result<T> integer() {
    ASSIGN_OR_RETURN(ByteView view, take(sizeof(T)));
    return load_le<T>(view.data());
  }

  ByteView bytes_;
  std::string_view what_;
  size_t offset_ = 0;
};

// The writing side: appends to a growing buffer it owns.
class ByteWriter {
 public:
  void u8(uint8_t v) { out_.push_back(v); }
  void u16(uint16_t v) { integer(v); }
  void u32(uint32_t v) { integer(v); }
  void u64(uint64_t v) { integer(v); }
  void varint(uint64_t v) {
    while (v >= 0x80) {
      out_.push_back(static_cast<uint8_t>(v) | 0x80);
      v >>= 7;
    }
    out_.push_back(static_cast<uint8_t>(v));
  }
  void bytes(ByteView v) { out_.insert(out_.end(), v.begin(), v.end()); }
  template <typename T>
  void structure(const T& value) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) == 1);
    const size_t at = out_.size();
    out_.resize(at + sizeof(T));
    std::memcpy(out_.data() + at, &value, sizeof(T));
  }
  size_t size() const { return out_.size(); }
  Bytes& buffer() { return out_; }
  Bytes take() { return std::move(out_); }

 private:
  template <typename T>
  void integer(T v) {
    const size_t at = out_.size();
    out_.resize(at + sizeof(T));
    store_le(out_.data() + at, v);
  }
  Bytes out_;
};

// Checked arithmetic for sizes that came from outside.
inline bool checked_add(uint64_t a, uint64_t b, uint64_t* out) {
  return !__builtin_add_overflow(a, b, out);
}
inline bool checked_mul(uint64_t a, uint64_t b, uint64_t* out) {
  return !__builtin_mul_overflow(a, b, out);
}
constexpr uint64_t round_up(uint64_t value, uint64_t power_of_two) {
  return (value + power_of_two - 1) & ~(power_of_two - 1);
}

}  // namespace pagein
