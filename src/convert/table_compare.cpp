#include "convert/table_compare.h"

#include <algorithm>

namespace pagein::convert {
namespace {

bool same_xattrs(const index::FileTable& a, const index::Entry& x, const index::FileTable& b,
                 const index::Entry& y) {
  if (a.xattr_count(x) != b.xattr_count(y)) return false;
  for (size_t i = 0; i < a.xattr_count(x); ++i) {
    if (a.xattr(x, i).name != b.xattr(y, i).name || a.xattr(x, i).value != b.xattr(y, i).value) {
      return false;
    }
  }
  return true;
}

bool same_segments(std::span<const index::SparseSegment> a,
                   std::span<const index::SparseSegment> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.file_offset == y.file_offset && x.length == y.length;
  });
}

// What differs between the entries; "" for nothing.
std::string entry_difference(const index::FileTable& a, const index::Entry& x,
                             const index::FileTable& b, const index::Entry& y) {
  if (a.name(x) != b.name(y) || x.parent != y.parent) return "name";
  if (x.type != y.type) return "type";
  if (x.mode != y.mode) return "mode";
  if (x.uid != y.uid || x.gid != y.gid) return "owner";
  if (x.mtime_sec != y.mtime_sec || x.mtime_nsec != y.mtime_nsec) return "modification time";
  if (x.size != y.size) return "size";
  if (x.dev_major != y.dev_major || x.dev_minor != y.dev_minor) return "device number";
  if (a.target(x) != b.target(y)) return "link target";
  if (x.tar_offset != y.tar_offset || x.tar_length != y.tar_length) return "place in the tar";
  if (x.sparse != y.sparse || !same_segments(a.segments(x), b.segments(y))) return "holes";
  if (!same_xattrs(a, x, b, y)) return "extended attributes";
  return "";
}

}  // namespace

std::string first_difference(const index::FileTable& expected, const index::FileTable& found) {
  const size_t common = std::min(expected.size(), found.size());
  for (index::EntryId id = 0; id < common; ++id) {
    const std::string what = entry_difference(expected, expected[id], found, found[id]);
    if (!what.empty()) return what + " of \"" + expected.path(id) + "\" differs";
  }
  if (expected.size() > common) {
    return "\"" + expected.path(static_cast<index::EntryId>(common)) + "\" is missing";
  }
  if (found.size() > common) {
    return "\"" + found.path(static_cast<index::EntryId>(common)) + "\" is not in the base image";
  }
  return "";
}

}  // namespace pagein::convert
