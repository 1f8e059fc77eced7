// CRC-32 as gzip uses it (RFC 1952, section 8), at some 10 GB/s.
#pragma once

#include <cstdint>

#include "base/file.h"

namespace pagein::codec {

// Of the bytes that gave `crc` (0 at the start) followed by `bytes`.
// Thread-safe.
uint32_t crc32(uint32_t crc, ByteView bytes);

}  // namespace pagein::codec
