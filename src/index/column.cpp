#include "index/column.h"

namespace pagein::index {

uint64_t ColumnReader::long_varint() {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 70; shift += 7) {
    if (at_ == end_) return fail();
    const uint8_t byte = *at_++;
    const uint64_t group = byte & 0x7f;
    if (shift == 63 && group > 1) return fail();
    value |= group << shift;
    if ((byte & 0x80) == 0) return group == 0 && shift > 0 ? fail() : value;
  }
  return fail();
}

}  // namespace pagein::index
