#include "erofs/plan.h"

#include <algorithm>
#include <bit>

#include "base/byte_reader.h"

namespace pagein::erofs {
namespace {

using index::FileType;

constexpr uint32_t kMaxChunkBits = 31;

uint64_t blocks_of(uint64_t bytes) { return (bytes >> kBlockBits) + ((bytes & (kBlock - 1)) != 0); }

// Bytes that a directory's entries take: whole blocks, and what the last one uses.
uint64_t directory_size(const tree::Tree& tree, tree::InodeId directory) {
  uint64_t full = 0;
  uint64_t used = 0;
  for_each_dirent(tree, directory, [&](std::string_view name, tree::InodeId) {
    const uint64_t need = sizeof(Dirent) + name.size();
    if (used + need > kBlock) {
      ++full;
      used = 0;
    }
    used += need;
  });
  return full * kBlock + used;
}

class Planner {
 public:
  Planner(const tree::Tree& tree, const WriteOptions& options) : tree_(tree), options_(options) {}

  Result<Plan> run();

 private:
  Status place(tree::InodeId inode);
  void place_flat(InodePlan* inode);
  Status place_file(tree::InodeId id, InodePlan* inode);
  Status check_devices() const;
  void align_core() {
    cursor_ = round_up(cursor_, kSlot);
    // The kernel reads an inode across blocks, but slower.
    if (cursor_ % kBlock > kBlock - sizeof(InodeExtended)) cursor_ = round_up(cursor_, kBlock);
  }

  const tree::Tree& tree_;
  const WriteOptions& options_;
  Plan plan_;
  uint64_t cursor_ = 0;
  uint64_t blocks_ = 0;  // data blocks so far
};

Status Planner::check_devices() const {
  const auto layers = tree_.layers();
  if (options_.devices.size() != layers.size()) {
    return Error(Code::invalid_argument, "EROFS wants one device for each layer");
  }
  if (layers.size() > kMaxDevices) return Error(Code::unsupported, "too many devices for EROFS");
  for (size_t i = 0; i < layers.size(); ++i) {
    const Device& device = options_.devices[i];
    if (device.tag.size() > sizeof(DeviceSlot::tag)) {
      return Error(Code::invalid_argument, "a device tag has more than 64 bytes");
    }
    if (device.blocks < blocks_of(layers[i].layout->data_size())) {
      return Error(Code::invalid_argument, "a device is smaller than its layer's data");
    }
    if (device.blocks >= kNullBlock) {
      return Error(Code::unsupported, "a layer has more than 16 TiB of data");
    }
  }
  return {};
}

Status Planner::place_file(tree::InodeId id, InodePlan* inode) {
  if (inode->size == 0) return {};
  if (inode->size > INT64_MAX) return Error(Code::unsupported, "the file is too large for EROFS");
  const ChunkPlan chunks = plan_chunks(inode->size, tree_.content(id).regions);
  if (chunks.count > kMaxImageSize / sizeof(ChunkIndex)) {
    return Error(Code::unsupported,
                 "the sparse file would need " + std::to_string(chunks.count) + " EROFS chunks");
  }
  inode->layout = Layout::chunk_based;
  inode->chunk_bits = static_cast<uint8_t>(chunks.bits);
  inode->chunk_count = static_cast<uint32_t>(chunks.count);
  cursor_ = round_up(cursor_, sizeof(ChunkIndex)) + chunks.count * sizeof(ChunkIndex);
  return {};
}

// Directories and symlinks: what does not fill a block lies behind the inode if all
// of that fits one block, which the next one then is if need be. (The kernel wants
// the tail in one block, and 6.1 a symlink's inode and xattrs in the same.)
void Planner::place_flat(InodePlan* inode) {
  const uint64_t head = sizeof(InodeExtended) + inode->xattr_size;
  const uint64_t tail = inode->size % kBlock;
  const bool inlined = tail > 0 && head + tail <= kBlock;
  if (inlined && inode->offset % kBlock + head + tail > kBlock) {
    inode->offset = round_up(inode->offset, kBlock);
  }
  cursor_ = inode->offset + head + (inlined ? tail : 0);
  inode->layout = inlined ? Layout::flat_inline : Layout::flat_plain;
  inode->block = static_cast<uint32_t>(blocks_);
  blocks_ += inode->size / kBlock + (tail > 0 && !inlined);
}

Status Planner::place(tree::InodeId id) {
  InodePlan& inode = plan_.inodes[id];
  inode.xattr_size = plan_.xattrs.body_size(id);
  align_core();
  inode.offset = cursor_;
  switch (tree_.type(id)) {
    case FileType::directory:
      inode.size = directory_size(tree_, id);
      place_flat(&inode);
      return {};
    case FileType::symlink:
      inode.size = tree_.symlink_target(id).size();
      place_flat(&inode);
      return {};
    case FileType::regular:
      inode.size = tree_.attributes(id).size;
      cursor_ += sizeof(InodeExtended) + inode.xattr_size;
      return place_file(id, &inode);
    default: cursor_ += sizeof(InodeExtended) + inode.xattr_size; return {};
  }
}

Result<Plan> Planner::run() {
  RETURN_IF_ERROR(check_devices());
  ASSIGN_OR_RETURN(plan_.xattrs, plan_xattrs(tree_));
  plan_.inodes.resize(tree_.inode_count());
  cursor_ = kSuperOffset + sizeof(SuperBlock) + options_.devices.size() * sizeof(DeviceSlot);
  // Not nid 0, which looks like a deleted entry to some programs.
  plan_.meta_block = (cursor_ - 1) / kBlock;
  const uint64_t begin = cursor_;
  for (tree::InodeId id = 0; id < plan_.inodes.size(); ++id) {
    if (Status status = place(id); !status.ok()) {
      return status.error().with_context(tree_.path(tree_.first_node(id)));
    }
    if (cursor_ - begin + blocks_ * kBlock > kMaxImageSize) {
      return Error(Code::unsupported, "the metadata would need more than 4 GiB");
    }
  }
  plan_.blocks_begin = round_up(cursor_, kBlock);
  plan_.xattrs_begin = plan_.blocks_begin + blocks_ * kBlock;
  plan_.total = plan_.xattrs_begin + round_up(plan_.xattrs.shared_size, kBlock);
  return std::move(plan_);
}

}  // namespace

ChunkPlan plan_chunks(uint64_t size, std::span<const index::Region> regions) {
  const uint64_t blocks = blocks_of(size);
  // An edge at block b allows chunks of 2^countr_zero(b) blocks at most.
  uint64_t edges = 0;
  uint64_t file_end = 0;
  uint64_t data_end = 0;
  for (const index::Region& region : regions) {
    const uint64_t begin = region.file_offset >> kBlockBits;
    if (begin != file_end || (region.data_offset >> kBlockBits) != data_end) edges |= begin;
    if (begin != file_end) edges |= file_end;
    file_end = begin + blocks_of(region.length);
    data_end = (region.data_offset >> kBlockBits) + blocks_of(region.length);
  }
  if (file_end < blocks) edges |= file_end;
  uint32_t bits = blocks > 1 ? static_cast<uint32_t>(std::bit_width(blocks - 1)) : 0;
  if (edges != 0) bits = std::min(bits, static_cast<uint32_t>(std::countr_zero(edges)));
  bits = std::min(bits, kMaxChunkBits);
  return {bits, (blocks + (1ULL << bits) - 1) >> bits};
}

Result<Plan> make_plan(const tree::Tree& tree, const WriteOptions& options) {
  return Planner(tree, options).run();
}

}  // namespace pagein::erofs
