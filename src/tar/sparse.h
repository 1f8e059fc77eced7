// Sparse maps, in the four forms in which GNU tar has written them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tar/entry.h"
#include "tar/pax.h"

namespace pagein::tar {

// Map data (extension blocks, a 1.0 map) beyond this is refused, as Go does;
// it holds no more than 262,144 segments.
inline constexpr uint64_t kMaxSparseMapBytes = 1 << 20;

// Collects segments. Empty ones are dropped, touching ones joined. Errors are
// corrupt_input for overlap, disorder or an end beyond the file.
class SparseMap {
 public:
  void clear() {
    segments_.clear();
    total_ = 0;
    end_ = 0;
  }
  Status append(int64_t offset, int64_t length);

  // The last check, once the file's size is known: all within `size`, and
  // their lengths sum up to the `stored` bytes in the archive.
  Status check(uint64_t size, uint64_t stored) const;

  const std::vector<SparseSegment>& segments() const { return segments_; }

 private:
  std::vector<SparseSegment> segments_;
  uint64_t total_ = 0;
  uint64_t end_ = 0;
};

// Old GNU format (type 'S'). The header block has up to 4 segments, extension
// blocks up to 21 each.
struct OldSparseBlock {
  bool extended = false;  // an extension block follows
};
Result<int64_t> old_sparse_real_size(ByteView header_block);
Result<OldSparseBlock> parse_old_sparse_header(ByteView header_block, SparseMap& map);
Result<OldSparseBlock> parse_old_sparse_extension(ByteView block, SparseMap& map);

// 0.0 (pairs of records) and 0.1 (one record, "offset,length,...").
Status parse_pax_sparse_map(const PaxRecords& records, SparseMap& map);

// 1.0: a text before the content, in whole blocks: the number of segments,
// then offset and length of each, every number on a line of its own.
class SparseMapText {
 public:
  void clear();
  // Takes the next block; true when the map is complete.
  Result<bool> add_block(ByteView block, SparseMap& map);

 private:
  Status number(SparseMap& map);

  std::string line_;
  uint64_t bytes_ = 0;
  uint64_t numbers_left_ = 1;
  bool counted_ = false;
  bool have_offset_ = false;
  int64_t offset_ = 0;
};

}  // namespace pagein::tar
