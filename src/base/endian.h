// Little- and big-endian integers as byte arrays, so that formats are read
// and written without casts, alignment or byte-order surprises.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace pagein {

template <typename T>
constexpr T load_le(const uint8_t* p) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(static_cast<T>(p[i]) << (8 * i));
  return value;
}

template <typename T>
constexpr void store_le(uint8_t* p, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) p[i] = static_cast<uint8_t>(value >> (8 * i));
}

// A little-endian integer in a packed structure; alignment 1.
template <typename T>
class Le {
 public:
  constexpr Le() = default;
  constexpr Le(T value) { store_le(bytes_, value); }           // NOLINT: implicit on purpose
  constexpr operator T() const { return load_le<T>(bytes_); }  // NOLINT

 private:
  uint8_t bytes_[sizeof(T)] = {};
};

using le16 = Le<uint16_t>;
using le32 = Le<uint32_t>;
using le64 = Le<uint64_t>;
static_assert(sizeof(le16) == 2 && sizeof(le32) == 4 && sizeof(le64) == 8);
static_assert(alignof(le64) == 1);

}  // namespace pagein
