// Internal to the writer: where everything goes before anything is written.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "erofs/format.h"
#include "erofs/writer.h"
#include "erofs/xattrs.h"

namespace pagein::erofs {

// How a regular file maps to chunks: all of 2^bits blocks, so few that each is
// either a hole or contiguous on the device.
struct ChunkPlan {
  uint32_t bits = 0;
  uint64_t count = 0;
};
ChunkPlan plan_chunks(uint64_t size, std::span<const index::Region> regions);

struct InodePlan {
  uint64_t offset = 0;      // of the inode, bytes from the image's start
  uint64_t size = 0;        // i_size
  uint32_t xattr_size = 0;  // bytes of the xattr body
  uint32_t block = 0;       // first data block, relative to Plan::blocks_begin
  uint32_t chunk_count = 0;
  uint8_t chunk_bits = 0;
  Layout layout = Layout::flat_plain;
};

// Image: superblock, device table, inodes (each with its xattrs and its chunk
// indexes, small directory or symlink target), blocks of larger directories and
// symlinks, shared xattrs.
struct Plan {
  std::vector<InodePlan> inodes;
  XattrPlan xattrs;
  uint64_t meta_block = 0;    // nids count from here
  uint64_t blocks_begin = 0;  // bytes
  uint64_t xattrs_begin = 0;  // bytes
  uint64_t total = 0;         // bytes

  uint64_t nid(tree::InodeId inode) const {
    return (inodes[inode].offset - meta_block * kBlock) / kSlot;
  }
};

Result<Plan> make_plan(const tree::Tree& tree, const WriteOptions& options);

// Calls f(name, inode) for a directory's entries, "." and ".." among them, in the
// order of bytes that the kernel's binary search expects.
template <typename F>
void for_each_dirent(const tree::Tree& tree, tree::InodeId directory, F&& f) {
  const tree::NodeId self = tree.first_node(directory);
  const auto [first, count] = tree.children(directory);
  int dots = 0;
  const auto emit_dots_before = [&](std::string_view name) {
    if (dots == 0 && name > ".") f(std::string_view("."), directory), ++dots;
    if (dots == 1 && name > "..") f(std::string_view(".."), tree.inode(tree.parent(self))), ++dots;
  };
  for (tree::NodeId node = first; node < first + count; ++node) {
    const std::string_view name = tree.name(node);
    if (dots < 2) emit_dots_before(name);
    f(name, tree.inode(node));
  }
  if (dots < 2) emit_dots_before("\xff");
}

}  // namespace pagein::erofs
