#include "erofs/writer.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "erofs/plan.h"

namespace pagein::erofs {
namespace {

using index::FileType;

constexpr uint16_t kModeOf[] = {0,       0100000, 0040000, 0120000, 0,
                                0020000, 0060000, 0010000, 0020000};  // by FileType; whiteout: c
constexpr uint8_t kCodeOf[] = {
    0,         kTypeRegular,   kTypeDirectory, kTypeSymlink, 0, kTypeCharDevice, kTypeBlockDevice,
    kTypeFifo, kTypeCharDevice};
static_assert(static_cast<int>(FileType::whiteout) == 8 && std::size(kModeOf) == 9 &&
              std::size(kCodeOf) == 9);

// Fills an image by its plan. Confined to one write_metadata().
class Writer {
 public:
  Writer(const tree::Tree& tree, const WriteOptions& options, const Plan& plan)
      : tree_(tree), options_(options), plan_(plan), image_(plan.total) {}

  Bytes run() {
    for (tree::InodeId id = 0; id < plan_.inodes.size(); ++id) write_inode(id);
    plan_.xattrs.write_shared(image_.data() + plan_.xattrs_begin);
    write_devices();
    write_super();
    return std::move(image_);
  }

 private:
  void write_inode(tree::InodeId id);
  void write_chunks(tree::InodeId id, uint64_t at);
  void write_symlink(tree::InodeId id);
  void write_directory(tree::InodeId id);
  // Where byte `offset` (a block's begin) of a flat inode's content lies.
  uint64_t content_at(tree::InodeId id, uint64_t offset) const {
    const InodePlan& inode = plan_.inodes[id];
    if (inode.layout == Layout::flat_inline && offset / kBlock == inode.size / kBlock) {
      return inode.offset + sizeof(InodeExtended) + inode.xattr_size;
    }
    return plan_.blocks_begin + inode.block * kBlock + offset;
  }
  void write_devices();
  void write_super();
  template <typename T>
  void put(uint64_t at, const T& value) {
    std::memcpy(image_.data() + at, &value, sizeof value);
  }

  const tree::Tree& tree_;
  const WriteOptions& options_;
  const Plan& plan_;
  Bytes image_;
};

void Writer::write_inode(tree::InodeId id) {
  const InodePlan& plan = plan_.inodes[id];
  const tree::Attributes a = tree_.attributes(id);
  const auto type = static_cast<size_t>(a.type);
  InodeExtended inode{};
  inode.format = static_cast<uint16_t>(1 | (static_cast<unsigned>(plan.layout) << 1));
  if (plan.xattr_size > 0) {
    inode.xattr_icount = static_cast<uint16_t>((plan.xattr_size - sizeof(XattrBody)) / 4 + 1);
  }
  inode.mode = static_cast<uint16_t>(kModeOf[type] | a.mode);
  inode.size = plan.size;
  inode.ino = id + 1;
  inode.uid = a.uid;
  inode.gid = a.gid;
  inode.mtime = static_cast<uint64_t>(a.mtime_sec);
  inode.mtime_nsec = a.mtime_nsec;
  inode.nlink = a.nlink;
  const uint64_t behind = plan.offset + sizeof inode + plan.xattr_size;
  switch (a.type) {
    case FileType::regular:
      if (plan.layout == Layout::chunk_based) {
        inode.u = kChunkIndexes | plan.chunk_bits;
        write_chunks(id, (behind + sizeof(ChunkIndex) - 1) & ~(sizeof(ChunkIndex) - 1));
      }
      break;
    case FileType::directory:
    case FileType::symlink:
      if (plan.layout == Layout::flat_plain || plan.size >= kBlock) {
        inode.u = static_cast<uint32_t>(plan_.blocks_begin / kBlock + plan.block);
      }
      a.type == FileType::symlink ? write_symlink(id) : write_directory(id);
      break;
    case FileType::char_device:
    case FileType::block_device: inode.u = encode_device(a.dev_major, a.dev_minor); break;
    default: break;
  }
  put(plan.offset, inode);
  if (plan.xattr_size > 0) {
    plan_.xattrs.write_body(id, image_.data() + plan.offset + sizeof inode);
  }
}

void Writer::write_chunks(tree::InodeId id, uint64_t at) {
  const InodePlan& plan = plan_.inodes[id];
  const tree::Content content = tree_.content(id);
  size_t next = 0;
  for (uint64_t i = 0; i < plan.chunk_count; ++i) {
    const uint64_t begin = i << (plan.chunk_bits + kBlockBits);
    while (next < content.regions.size() &&
           content.regions[next].file_offset + content.regions[next].length <= begin) {
      ++next;
    }
    ChunkIndex chunk{};
    chunk.blkaddr = kNullBlock;
    if (next < content.regions.size() && content.regions[next].file_offset <= begin) {
      const index::Region& region = content.regions[next];
      chunk.device_id = static_cast<uint16_t>(content.layer + 1);
      chunk.blkaddr =
          static_cast<uint32_t>((region.data_offset + (begin - region.file_offset)) / kBlock);
    }
    put(at + i * sizeof chunk, chunk);
  }
}

void Writer::write_symlink(tree::InodeId id) {
  const std::string_view target = tree_.symlink_target(id);
  target.copy(reinterpret_cast<char*>(image_.data() + content_at(id, 0)), target.size());
}

void Writer::write_directory(tree::InodeId id) {
  struct Pending {
    std::string_view name;
    tree::InodeId inode;
  };
  Pending pending[kMaxDirents];
  size_t count = 0;
  uint64_t used = 0;
  uint64_t block = 0;
  const auto flush = [&] {
    uint8_t* const base = image_.data() + content_at(id, block * kBlock);
    size_t name_offset = count * sizeof(Dirent);
    for (size_t i = 0; i < count; ++i) {
      Dirent dirent{};
      dirent.nid = plan_.nid(pending[i].inode);
      dirent.name_offset = static_cast<uint16_t>(name_offset);
      dirent.file_type = kCodeOf[static_cast<size_t>(tree_.type(pending[i].inode))];
      std::memcpy(base + i * sizeof dirent, &dirent, sizeof dirent);
      pending[i].name.copy(reinterpret_cast<char*>(base + name_offset), pending[i].name.size());
      name_offset += pending[i].name.size();
    }
    count = 0;
    used = 0;
    ++block;
  };
  for_each_dirent(tree_, id, [&](std::string_view name, tree::InodeId inode) {
    const uint64_t need = sizeof(Dirent) + name.size();
    if (used + need > kBlock) flush();
    pending[count++] = {name, inode};
    used += need;
  });
  flush();
}

void Writer::write_devices() {
  // One after the other behind the metadata: for a kernel that is given no devices
  // but one file that holds all (0 where that would not fit 32 bits).
  uint64_t mapped = plan_.total / kBlock;
  for (size_t i = 0; i < options_.devices.size(); ++i) {
    const Device& device = options_.devices[i];
    DeviceSlot slot{};
    device.tag.copy(reinterpret_cast<char*>(slot.tag), sizeof slot.tag);
    slot.blocks = static_cast<uint32_t>(device.blocks);
    if (mapped + device.blocks < kNullBlock) slot.mapped_blkaddr = static_cast<uint32_t>(mapped);
    mapped += device.blocks;
    put(kSuperOffset + sizeof(SuperBlock) + i * sizeof slot, slot);
  }
}

void Writer::write_super() {
  SuperBlock super{};
  super.magic = kSuperMagic;
  super.feature_compat = kCompatSuperChecksum | kCompatMtime;
  super.block_bits = kBlockBits;
  super.root_nid = static_cast<uint16_t>(plan_.nid(tree::kRootInode));
  super.inodes = plan_.inodes.size();
  super.blocks = static_cast<uint32_t>(plan_.total / kBlock);
  super.meta_blkaddr = static_cast<uint32_t>(plan_.meta_block);
  if (plan_.xattrs.shared_size > 0) {
    super.xattr_blkaddr = static_cast<uint32_t>(plan_.xattrs_begin / kBlock);
  }
  super.feature_incompat = kIncompatChunkedFile | kIncompatDeviceTable;
  super.extra_devices = static_cast<uint16_t>(options_.devices.size());
  super.device_table_slot = (kSuperOffset + sizeof(SuperBlock)) / sizeof(DeviceSlot);
  put(kSuperOffset, super);
  // A name of the content; as a UUID of version 8 (RFC 9562, 5.8).
  const XXH128_hash_t hash = XXH3_128bits(image_.data(), image_.size());
  store_le<uint64_t>(super.uuid, hash.low64);
  store_le<uint64_t>(super.uuid + 8, hash.high64);
  super.uuid[6] = (super.uuid[6] & 0x0f) | 0x80;
  super.uuid[8] = (super.uuid[8] & 0x3f) | 0x80;
  put(kSuperOffset, super);
  super.checksum = crc32c(~0u, image_.data() + kSuperOffset, kBlock - kSuperOffset);
  put(kSuperOffset, super);
}

}  // namespace

WriteOptions options_for(const tree::Tree& tree, const std::vector<std::string>& tags) {
  WriteOptions options;
  for (size_t i = 0; i < tree.layers().size(); ++i) {
    options.devices.push_back(
        {i < tags.size() ? tags[i] : std::string(), tree.layers()[i].layout->data_size() / kBlock});
  }
  return options;
}

Result<Bytes> write_metadata(const tree::Tree& tree, const WriteOptions& options) {
  ASSIGN_OR_RETURN(const Plan plan, make_plan(tree, options));
  return Writer(tree, options, plan).run();
}

}  // namespace pagein::erofs
