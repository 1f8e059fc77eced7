// The records of one pax extended header (POSIX.1-2001 "pax Header Block").
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace pagein::tar {

// The keys that mean something here. All others are read over, as Go does:
// charset, hdrcharset (names are bytes anyhow), comment, LIBARCHIVE.*, ...
enum class PaxKey : size_t {
  path,
  linkpath,
  size,
  uid,
  gid,
  uname,
  gname,
  mtime,
  atime,
  ctime,
  sparse_major,
  sparse_minor,
  sparse_name,
  sparse_size,
  sparse_real_size,
  sparse_map,
  sparse_num_blocks,
  count,
};

// Views point into the bytes that were parsed. Of a key that occurs more than
// once the last value counts; an empty value is as if the key were not there.
class PaxRecords {
 public:
  // corrupt_input for anything but a list of "LENGTH KEY=VALUE\n"; for a NUL
  // in a key, a path or a name; for sparse pairs out of order.
  static Result<PaxRecords> parse(ByteView bytes);

  // Empty if absent.
  std::string_view operator[](PaxKey key) const { return values_[static_cast<size_t>(key)]; }

  // SCHILY.xattr.NAME, in the order of the archive. Values may be empty.
  using XattrRef = std::pair<std::string_view, std::string_view>;
  const std::vector<XattrRef>& xattrs() const { return xattrs_; }

  // Repeated GNU.sparse.offset and GNU.sparse.numbytes (sparse format 0.0),
  // alternating; they take the place of a sparse map. (A lone empty one makes
  // an empty map, that is none.)
  const std::vector<std::string_view>& sparse_pairs() const { return sparse_pairs_; }

 private:
  Status add(std::string_view key, std::string_view value);

  std::array<std::string_view, static_cast<size_t>(PaxKey::count)> values_{};
  std::vector<XattrRef> xattrs_;
  std::vector<std::string_view> sparse_pairs_;
};

}  // namespace pagein::tar
