// The columns of the files section, in their order. Shared by the writer and
// the parser alone (docs/formats/layer-index.md, "files").
#pragma once

#include <cstddef>
#include <cstdint>

#include "index/file_table.h"

namespace pagein::index {

enum Column : size_t {
  kXattrLists,
  kAttributeSets,
  kAttributes,
  kParents,
  kNames,
  kSeconds,
  kNanoseconds,
  kSizes,
  kGaps,
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
