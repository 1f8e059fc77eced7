// The columns of the files section, in their order. Shared by the writer and
// the parser alone (docs/formats/layer-index.md, "files").
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/byte_reader.h"
#include "index/file_table.h"
#include "tar/header_block.h"

namespace pagein::index {

enum Column : size_t {
  kXattrLists,
  kAttributeSets,
  kAttributes,
  kParents,
  kNames,
  kTimes,
  kTimeLow,
  kTimeHigh,
  kSizeLow,
  kSizeMiddle,
  kSizeHigh,
  kOffsets,
  kTargets,
  kDevices,
  kSegments,
  kColumnCount,
};

// The type byte of an attribute set: a FileType, and this for sparse files.
inline constexpr uint8_t kSparseFlag = 0x80;

// The parents column: 0 is the entry before, k its k-th ancestor, up to this;
// beyond that, minus this minus 1, an entry's id.
inline constexpr uint64_t kMaxParentStep = 31;

// Where content starts if every entry since the last one with content has one
// header block in the tar; the offsets column holds what differs from that.
inline uint64_t predicted_offset(uint64_t tar_end, EntryId entries_since) {
  return round_up(tar_end, tar::kBlockSize) + uint64_t{entries_since} * tar::kBlockSize;
}

inline bool has_time(FileType type) {
  return type != FileType::whiteout && type != FileType::opaque &&
         type != FileType::implied_directory;
}
inline bool has_target(FileType type) {
  return type == FileType::symlink || type == FileType::hardlink;
}
inline bool is_device(FileType type) {
  return type == FileType::char_device || type == FileType::block_device;
}
inline bool is_directory(FileType type) {
  return type == FileType::directory || type == FileType::implied_directory;
}

}  // namespace pagein::index
