// One member of a tar archive, as the dialects agree to describe it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pagein::tar {

enum class EntryType : uint8_t {
  regular,
  directory,
  symlink,
  hardlink,
  char_device,
  block_device,
  fifo,
};

// A run of bytes that the archive holds; what lies between runs is zero.
struct SparseSegment {
  uint64_t file_offset;
  uint64_t length;
};

struct Xattr {
  std::string name;   // in full, "security.capability"; not empty, no NUL
  std::string value;  // bytes, NUL allowed
};

// A value. Names are bytes as they stand in the archive (neither normalised
// nor checked for ".."), without NUL. Numbers are as Go's archive/tar gives
// them; whoever makes files of them decides about their range.
struct Entry {
  EntryType type = EntryType::regular;
  std::string path;
  std::string link_target;  // symlink, hardlink
  uint16_t mode = 0;        // permission bits, 07777
  int64_t uid = 0;
  int64_t gid = 0;
  int64_t mtime_sec = 0;    // since 1970, may be negative
  uint32_t mtime_nsec = 0;  // 0..999999999, to be added
  int64_t dev_major = 0;
  int64_t dev_minor = 0;
  uint64_t size = 0;          // of the file; 0 unless regular
  std::vector<Xattr> xattrs;  // sorted by name, each name once

  // Where the content is: content_length bytes of the uncompressed tar at
  // content_offset. For a sparse file these are the segments one after the
  // other, and content_length is the sum of their lengths.
  uint64_t content_offset = 0;
  uint64_t content_length = 0;
  bool sparse = false;
  std::vector<SparseSegment> segments;  // ascending, disjoint, not empty, within size
};

}  // namespace pagein::tar
