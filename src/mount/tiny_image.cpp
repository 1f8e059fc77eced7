#include "mount/tiny_image.h"

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cassert>

#include "base/byte_reader.h"

namespace pagein::mount {
namespace {

constexpr uint32_t kMagic = 0xE0F5E1E2;
constexpr size_t kBlock = 4096;
constexpr size_t kSuperOffset = 1024;
constexpr size_t kSlotSize = 128;  // of the device table
constexpr size_t kDeviceTable = kSuperOffset + 128;
constexpr uint32_t kIncompatChunkedFile = 0x4;
constexpr uint32_t kIncompatDeviceTable = 0x8;
constexpr uint16_t kLayoutPlain = 0 << 1;
constexpr uint16_t kLayoutChunked = 4 << 1;
constexpr uint16_t kChunkIndexes = 0x20;
constexpr size_t kDirentSize = 12;

// A file's inode (32 bytes) and its one chunk index, in two nids.
constexpr size_t kNidSize = 32;
constexpr size_t kNidsPerFile = 2;

struct DirEntry {
  std::string name;
  uint64_t nid;
  uint8_t type;
};

void inode(ByteWriter& out, uint16_t format, uint16_t mode, uint32_t size, uint32_t info,
           uint32_t number) {
  out.u16(format);
  out.u16(0);  // xattrs
  out.u16(mode);
  out.u16(S_ISDIR(mode) ? 2 : 1);  // links
  out.u32(size);
  out.u32(0);
  out.u32(info);
  out.u32(number);
  out.u16(0);  // uid
  out.u16(0);  // gid
  out.u32(0);
}

// Directory blocks: entries, then names; the first entry's name offset tells
// how many entries there are.
Bytes directory(std::vector<DirEntry> entries) {
  std::sort(entries.begin(), entries.end(),
            [](const DirEntry& a, const DirEntry& b) { return a.name < b.name; });
  Bytes blocks;
  for (size_t i = 0; i < entries.size();) {
    size_t used = 0, count = 0;
    while (i + count < entries.size() &&
           used + kDirentSize + entries[i + count].name.size() <= kBlock) {
      used += kDirentSize + entries[i + count++].name.size();
    }
    ByteWriter block;
    size_t name_offset = count * kDirentSize;
    for (size_t k = i; k < i + count; ++k) {
      block.u64(entries[k].nid);
      block.u16(static_cast<uint16_t>(name_offset));
      block.u8(entries[k].type);
      block.u8(0);
      name_offset += entries[k].name.size();
    }
    for (size_t k = i; k < i + count; ++k) block.bytes(as_bytes(entries[k].name));
    Bytes bytes = block.take();
    bytes.resize(kBlock);
    blocks.insert(blocks.end(), bytes.begin(), bytes.end());
    i += count;
  }
  return blocks;
}

// log2 of blocks that hold the whole file in one chunk.
uint16_t chunk_bits(uint64_t size) {
  const uint64_t blocks = std::max<uint64_t>(1, (size + kBlock - 1) / kBlock);
  return static_cast<uint16_t>(std::bit_width(std::bit_ceil(blocks)) - 1);
}

struct Layout {
  uint32_t meta_block, dir_block, blocks;
};

Bytes super(const TinyImage& image, const Layout& layout) {
  ByteWriter out;
  out.u32(kMagic);
  out.u32(0);   // checksum: feature not set
  out.u32(0);   // feature_compat
  out.u8(12);   // blkszbits
  out.u8(0);    // sb_extslots
  out.u16(0);   // root_nid
  out.u64(image.files.size() + 1);
  out.u64(0);   // build time
  out.u32(0);
  out.u32(layout.blocks);
  out.u32(layout.meta_block);
  out.u32(0);   // xattr_blkaddr
  out.bytes(Bytes(32));  // uuid, volume name
  out.u32(kIncompatChunkedFile | kIncompatDeviceTable);
  out.u16(0);   // compression
  out.u16(static_cast<uint16_t>(image.device_sizes.size()));
  out.u16(kDeviceTable / kSlotSize);
  out.bytes(Bytes(38));
  assert(out.size() == 128);
  for (const uint64_t size : image.device_sizes) {
    out.bytes(Bytes(64));  // tag
    out.u32(static_cast<uint32_t>(size / kBlock));
    out.u32(0);            // no place in a flat address space
    out.bytes(Bytes(56));
  }
  return out.take();
}

}  // namespace

Bytes tiny_erofs_metadata(const TinyImage& image) {
  std::vector<DirEntry> entries = {{".", 0, 2}, {"..", 0, 2}};
  for (size_t i = 0; i < image.files.size(); ++i) {
    entries.push_back({image.files[i].name, 1 + kNidsPerFile * i, 1});
  }
  const Bytes dir = directory(std::move(entries));
  const size_t inode_bytes = kNidSize * (1 + kNidsPerFile * image.files.size());
  Layout layout;
  layout.meta_block = static_cast<uint32_t>(
      round_up(kDeviceTable + kSlotSize * image.device_sizes.size(), kBlock) / kBlock);
  layout.dir_block =
      layout.meta_block + static_cast<uint32_t>(round_up(inode_bytes, kBlock) / kBlock);
  layout.blocks = layout.dir_block + static_cast<uint32_t>(dir.size() / kBlock);

  ByteWriter inodes;
  inode(inodes, kLayoutPlain, S_IFDIR | 0755, static_cast<uint32_t>(dir.size()),
        layout.dir_block, 1);
  for (size_t i = 0; i < image.files.size(); ++i) {
    const TinyFile& file = image.files[i];
    inode(inodes, kLayoutChunked, S_IFREG | file.mode, static_cast<uint32_t>(file.size),
          kChunkIndexes | chunk_bits(file.size), static_cast<uint32_t>(i + 2));
    inodes.u16(0);
    inodes.u16(file.device);
    inodes.u32(file.first_block);
    inodes.bytes(Bytes(kNidSize - 8));
  }

  Bytes out(layout.blocks * kBlock);
  const auto place = [&](const Bytes& bytes, size_t at) {
    std::copy(bytes.begin(), bytes.end(), out.begin() + static_cast<std::ptrdiff_t>(at));
  };
  place(super(image, layout), kSuperOffset);
  place(inodes.buffer(), layout.meta_block * kBlock);
  place(dir, layout.dir_block * kBlock);
  return out;
}

}  // namespace pagein::mount
