#include "erofs/format.h"

#include <array>

namespace pagein::erofs {
namespace {

// The reflected Castagnoli polynomial (RFC 3720, B.4).
constexpr auto kTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ ((c & 1) ? 0x82f63b78u : 0);
    table[i] = c;
  }
  return table;
}();

}  // namespace

uint32_t crc32c(uint32_t seed, const uint8_t* data, size_t size) {
  for (size_t i = 0; i < size; ++i) seed = (seed >> 8) ^ kTable[(seed ^ data[i]) & 0xff];
  return seed;
}

}  // namespace pagein::erofs
