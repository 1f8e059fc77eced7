#include "base/byte_reader.h"

namespace pagein {

Result<uint64_t> ByteReader::varint() {
  const size_t start = offset_;
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 70; shift += 7) {
    ASSIGN_OR_RETURN(const uint8_t byte, u8());
    const uint64_t group = byte & 0x7f;
    if (shift == 63 && group > 1) break;
    value |= group << shift;
    if ((byte & 0x80) == 0) {
      if (group == 0 && shift > 0) break;
      return value;
    }
  }
  return Error(
      Code::corrupt_input,
      std::string(what_) + ": bad variable-length integer at offset " + std::to_string(start));
}

}  // namespace pagein
