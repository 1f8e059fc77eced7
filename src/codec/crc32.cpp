#include "codec/crc32.h"

#include <libdeflate.h>

namespace pagein::codec {

uint32_t crc32(uint32_t crc, ByteView bytes) {
  return libdeflate_crc32(crc, bytes.data(), bytes.size());
}

}  // namespace pagein::codec
