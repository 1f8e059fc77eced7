// The invariants of file_table.h, as code: for tests and fuzz targets only.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "index/data_layout.h"
#include "index/file_table.h"
#include "index/path.h"

namespace pagein::index {

inline void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

inline void require_attributes(const FileTable& table, const Entry& e) {
  require(e.mode <= 07777 && e.mtime_sec >= 0 && e.mtime_sec <= kMaxMtime &&
              e.mtime_nsec < 1'000'000'000 && e.dev_major <= kMaxDevMajor &&
              e.dev_minor <= kMaxDevMinor,
          "F9");
  std::string_view previous;
  for (size_t i = 0; i < e.xattr_count; ++i) {
    const XattrView xattr = table.xattr(e, i);
    require(xattr.name > previous && xattr.name.size() <= 255 && xattr.value.size() <= 65536 &&
                xattr.name.find('\0') == std::string_view::npos,
            "F8");
    previous = xattr.name;
  }
}

inline void require_content(const FileTable& table, const Entry& e, uint64_t& tar_end) {
  if (e.type != FileType::regular) {
    require(e.size == 0 && e.tar_length == 0 && !e.sparse, "content of no file");
    return;
  }
  if (e.tar_length > 0) {
    require(e.tar_offset >= tar_end, "F4");
    tar_end = e.tar_offset + e.tar_length;
  }
  uint64_t at = 0;
  uint64_t total = 0;
  for (const SparseSegment& s : table.segments(e)) {
    require(s.length > 0 && s.file_offset >= at, "F5");
    at = s.file_offset + s.length;
    total += s.length;
  }
  require(e.size <= INT64_MAX && at <= e.size && e.tar_length == (e.sparse ? total : e.size),
          "F5 sums");
}

inline void require_invariants(const FileTable& table) {
  auto is_directory = [&](EntryId id) {
    return table[id].type == FileType::directory || table[id].type == FileType::implied_directory;
  };
  require(table.size() > 0 && is_directory(kRootEntry) && table[kRootEntry].name_length == 0, "F1");
  uint64_t tar_end = 0;
  for (EntryId id = 0; id < table.size(); ++id) {
    const Entry& e = table[id];
    if (id != kRootEntry) {
      require(e.parent < id && is_directory(e.parent), "F2");
      require(e.type == FileType::opaque ? e.name_length == 0 : is_valid_name(table.name(e)), "F3");
    }
    require(table.path(id).size() <= kMaxPathBytes + 1, "F6");
    if (e.type == FileType::hardlink) require(is_normal_path(table.target(e)), "F7");
    if (e.type == FileType::symlink) {
      const std::string_view target = table.target(e);
      require(!target.empty() && target.size() <= kMaxPathBytes &&
                  target.find('\0') == std::string_view::npos,
              "F7");
    }
    require_attributes(table, e);
    require_content(table, e, tar_end);
  }
}

// The promises of data_layout.h.
inline void require_layout(const FileTable& table, const DataLayout& layout) {
  require(layout.data_size() % kBlockSize == 0 && layout.data_size() <= kMaxDataSize, "data size");
  uint64_t data_end = 0;
  for (EntryId id = 0; id < table.size(); ++id) {
    uint64_t file_end = 0;
    for (const Region& r : layout.regions(id)) {
      require(r.length > 0 && r.data_offset == data_end && r.data_offset % kBlockSize == 0 &&
                  r.file_offset % kBlockSize == 0 && (r.file_offset > file_end || file_end == 0) &&
                  r.file_offset + r.length <= table[id].size &&
                  (r.length % kBlockSize == 0 || r.file_offset + r.length == table[id].size),
              "region");
      file_end = r.file_offset + r.length;
      data_end = (r.data_offset + r.length + kBlockSize - 1) / kBlockSize * kBlockSize;
    }
  }
  require(data_end == layout.data_size(), "regions fill the data");
  uint64_t extent_data = 0;
  uint64_t extent_tar = 0;
  for (const Extent& e : layout.extents()) {
    require(e.length > 0 && e.data_offset >= extent_data && e.tar_offset >= extent_tar, "extent");
    extent_data = e.data_offset + e.length;
    extent_tar = e.tar_offset + e.length;
  }
  require(extent_data <= layout.data_size(), "extents lie in the data");
}

}  // namespace pagein::index
