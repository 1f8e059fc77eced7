// The tar entries of one layer, in order, in a compact immutable form: what the
// "files" section of a layer index holds (docs/formats/layer-index.md) and what
// the merge of a chain of layers starts from.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace pagein::index {

using EntryId = uint32_t;
inline constexpr EntryId kRootEntry = 0;

// Caps on one layer. Names and paths: what Linux takes (NAME_MAX, PATH_MAX
// without the final NUL), so a path is at most 2048 components deep.
inline constexpr uint32_t kMaxEntries = 16 << 20;
inline constexpr uint32_t kMaxSegments = 16 << 20;    // of all sparse files
inline constexpr uint64_t kMaxStringBytes = 1 << 30;  // names, targets, xattrs
inline constexpr size_t kMaxNameBytes = 255;
inline constexpr size_t kMaxPathBytes = 4095;
// Seconds since 1970: the last whole one that 63 bits of nanoseconds reach
// (2262), where containerd bounds times too.
inline constexpr int64_t kMaxMtime = 9'223'372'035;
// The kernel's dev_t.
inline constexpr uint32_t kMaxDevMajor = 0xfff;
inline constexpr uint32_t kMaxDevMinor = 0xfffff;
// What a directory has that no tar entry describes.
inline constexpr uint16_t kImpliedMode = 0755;

// Blocks of a layer's data file and of the EROFS image over it, in bytes.
inline constexpr uint64_t kBlockSize = 4096;

enum class FileType : uint8_t {
  regular = 1,
  directory = 2,
  symlink = 3,
  hardlink = 4,  // link_target is a path in the image, from its root
  char_device = 5,
  block_device = 6,
  fifo = 7,
  whiteout = 8,            // ".wh.NAME": NAME is hidden from lower layers
  opaque = 9,              // ".wh..wh..opq": hides all of parent's lower content; no name
  implied_directory = 10,  // no tar entry of its own, but something lies below it
};

// A run of real bytes in a sparse file; between runs the file reads as zeros.
struct SparseSegment {
  uint64_t file_offset;
  uint64_t length;
};

struct XattrView {
  std::string_view name;   // full name, "security.capability"
  std::string_view value;  // bytes
};

// Plain record; its strings, xattrs and segments are in the table's arrays.
struct Entry {
  FileType type = FileType::regular;
  bool sparse = false;  // segments() describe where real bytes are
  uint16_t mode = 0;    // permission bits, 07777
  uint32_t uid = 0;
  uint32_t gid = 0;
  EntryId parent = kRootEntry;  // a directory or implied_directory entry, smaller id
  uint32_t mtime_nsec = 0;
  int64_t mtime_sec = 0;
  uint64_t size = 0;  // as stat shows it; 0 unless regular
  uint32_t dev_major = 0;
  uint32_t dev_minor = 0;
  uint64_t tar_offset = 0;  // of the file's bytes in the uncompressed tar
  uint64_t tar_length = 0;  // bytes there: size, or the sum of the sparse segments
  // Into the table's arrays:
  uint32_t name_offset = 0;
  uint32_t name_length = 0;
  uint32_t target_offset = 0;  // symlink (verbatim) or hardlink (normalised path)
  uint32_t target_length = 0;
  uint32_t xattr_first = 0;
  uint32_t xattr_count = 0;
  uint32_t segment_first = 0;
  uint32_t segment_count = 0;
};

// Immutable after construction, so safe to share between threads. Views point
// into the table. Invariants (established by FileTableBuilder and by parse, so
// nobody checks again):
//  F1 entry 0 is the root: a directory or implied_directory with an empty name.
//  F2 parent < id for every other entry, and the parent is a directory or an implied_directory.
//  F3 names are 1..255 bytes, without '/' and NUL, never "." or ".." (opaque: empty).
//  F4 tar ranges of regular files ascend and do not overlap.
//  F5 sparse segments ascend, do not overlap, are not empty, end at or before size;
//     size is less than 2^63.
//  F6 paths are at most kMaxPathBytes long.
//  F7 hard-link targets are normalised paths: names as in F3 joined by '/'.
//     Symlink targets are 1..kMaxPathBytes bytes without NUL.
//  F8 an entry's xattrs are sorted by name, each name once; names are 1..255
//     bytes without NUL, values up to 64 KiB.
//  F9 0 <= mtime_sec <= kMaxMtime, mtime_nsec < 10^9. Whiteouts, opaque marks
//     and implied directories have no attributes: mode (kImpliedMode for the
//     latter), owner and time are 0, and there are no xattrs.
// The same path may occur more than once; the later entry replaces the earlier.
class FileTable {
 public:
  size_t size() const { return entries_.size(); }
  const Entry& operator[](EntryId id) const { return entries_[id]; }
  std::span<const Entry> entries() const { return entries_; }

  std::string_view name(const Entry& e) const { return view(e.name_offset, e.name_length); }
  std::string_view target(const Entry& e) const { return view(e.target_offset, e.target_length); }
  // Calls f(XattrView) for each, in the order of names.
  size_t xattr_count(const Entry& e) const { return e.xattr_count; }
  XattrView xattr(const Entry& e, size_t i) const {
    const XattrRef& ref = xattrs_[e.xattr_first + i];
    return {view(ref.name_offset, ref.name_length), view(ref.value_offset, ref.value_length)};
  }
  std::span<const SparseSegment> segments(const Entry& e) const {
    return std::span(segments_).subspan(e.segment_first, e.segment_count);
  }
  // "usr/bin/env"; "" for the root.
  std::string path(EntryId id) const;

 private:
  friend class FileTableBuilder;
  friend class FileTableParser;
  struct XattrRef {
    uint32_t name_offset, name_length, value_offset, value_length;
  };
  std::string_view view(uint32_t offset, uint32_t length) const {
    return std::string_view(strings_).substr(offset, length);
  }
  std::vector<Entry> entries_;
  std::string strings_;
  std::vector<XattrRef> xattrs_;
  std::vector<SparseSegment> segments_;
};

}  // namespace pagein::index
