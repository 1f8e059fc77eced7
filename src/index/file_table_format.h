// The files section of the layer index, before compression
// (docs/formats/layer-index.md, "files").
#pragma once

#include <cstdint>

#include "base/file.h"
#include "base/result.h"
#include "index/file_table.h"

namespace pagein::index {

// Deterministic: equal tables give equal bytes.
Bytes write_file_table(const FileTable& table);

struct FileTableLimits {
  uint64_t entries = 0;   // exactly so many
  uint64_t tar_size = 0;  // content lies below
};
// All invariants of FileTable are established here. corrupt_input if not.
Result<FileTable> parse_file_table(ByteView bytes, const FileTableLimits& limits);

}  // namespace pagein::index
