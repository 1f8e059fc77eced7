// Where each file's bytes lie in a layer's data file: the files' contents in tar
// order, each file (each stored region of a sparse file) starting at a multiple
// of kBlockSize, zeros between. A pure function of the file table, so converter,
// store and EROFS writer agree without storing it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "index/file_table.h"

namespace pagein::index {

// 16 TiB: EROFS counts the blocks of a device in 32 bits.
inline constexpr uint64_t kMaxDataSize = uint64_t{1} << 44;

// `length` bytes of the tar at `tar_offset` are the bytes of the data file at
// `data_offset`. What no extent covers is zero.
struct Extent {
  uint64_t data_offset;
  uint64_t tar_offset;
  uint64_t length;
};

// A stored region of a file: `file_offset`, `data_offset` are multiples of
// kBlockSize; `length` is, except at the file's end. Holes have no region.
struct Region {
  uint64_t file_offset;
  uint64_t data_offset;
  uint64_t length;
};

// Immutable after build(). Thread-safe. Offsets and lengths in bytes.
class DataLayout {
 public:
  // corrupt_input where sizes overflow kMaxDataSize.
  static Result<DataLayout> build(const FileTable& table);

  // A multiple of kBlockSize.
  uint64_t data_size() const { return data_size_; }
  // Ascending in both offsets; adjacent extents are merged only within a file.
  std::span<const Extent> extents() const { return extents_; }
  // Regions of a regular entry's content, ascending; empty for an empty file.
  std::span<const Region> regions(EntryId id) const;

  // The smallest range of the tar that holds every byte of the data range
  // [data_offset, data_offset + length); nullopt where that is all zeros.
  struct TarRange {
    uint64_t begin, end;
  };
  std::optional<TarRange> tar_range(uint64_t data_offset, uint64_t length) const;

  // The data range that the tar range [begin, end) contributes to, from its
  // first extent byte to its last; nullopt where it holds no file data.
  struct DataRange {
    uint64_t begin, end;
  };
  std::optional<DataRange> data_range(uint64_t tar_begin, uint64_t tar_end) const;

  // Extents that overlap the tar range, as indices [first, last) of extents().
  std::pair<size_t, size_t> extents_in_tar(uint64_t tar_begin, uint64_t tar_end) const;

 private:
  class Builder;

  uint64_t data_size_ = 0;
  std::vector<Extent> extents_;
  std::vector<Region> regions_;
  std::vector<uint32_t> region_first_;  // by entry; size() + 1 elements
};

}  // namespace pagein::index
