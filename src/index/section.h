// zstd compression of a section of the layer index.
#pragma once

#include <cstdint>

#include "base/file.h"
#include "base/result.h"

namespace pagein::index {

// One zstd frame. The same bytes for the same input and libzstd.
Result<Bytes> compress_section(ByteView raw);

// `stored` is one frame that gives exactly `raw_size` bytes (which the caller
// has capped); corrupt_input, naming `what`, if it is not.
Result<Bytes> decompress_section(ByteView stored, uint64_t raw_size, std::string_view what);

}  // namespace pagein::index
