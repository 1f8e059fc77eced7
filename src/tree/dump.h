// One line per name of a file tree, the same from a Tree and from an EROFS image
// (erofs/dump.h), so that tests and `pagein doctor` can compare them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tree/tree.h"

namespace pagein::tree {

// A piece of a file: `device` d's bytes from `device_offset`. Pieces that adjoin in
// the file and in one device are one.
struct DumpExtent {
  uint64_t file_offset;
  uint64_t length;
  uint32_t device;  // layer index
  uint64_t device_offset;
};

struct DumpLine {
  std::string path;
  Attributes attributes;
  std::string link_to;  // of a further name: the inode's first path
  std::string target;
  std::vector<std::pair<std::string, std::string>> xattrs;  // sorted
  std::vector<DumpExtent> extents;
};

// "PATH TYPE MODE UID:GID NLINK SIZE MTIME RDEV ...\n"; odd bytes as \xNN.
void append_line(const DumpLine& line, std::string* out);

// All nodes, breadth first, each directory's by name. For tests and tools: may be large.
std::string dump(const Tree& tree);

}  // namespace pagein::tree
