// The seek table behind a blob of zstd frames, for other readers of the
// "Zstandard Seekable Format" (zstd's contrib/seekable_format, version 0.1.0).
// A node does not need it: the layer index says more.
#pragma once

#include <cstdint>

#include "base/byte_reader.h"
#include "base/result.h"

namespace pagein::codec {

// Little-endian, all fields of 32 bits but one: a skippable frame's magic
// number and size; per frame its compressed and decompressed size; number of
// frames; one byte of flags (0: no checksums); the seekable format's magic
// number. Thread-compatible.
class SeekTable {
 public:
  // Sizes of one frame, in bytes. exhausted beyond what the format can hold.
  Status add(uint64_t compressed, uint64_t uncompressed);
  // The skippable frame. Nothing may be added afterwards.
  Bytes finish();

 private:
  ByteWriter entries_;
  uint32_t count_ = 0;
};

}  // namespace pagein::codec
