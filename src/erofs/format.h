// EROFS structures on disk, as far as this project writes them.
//
// Source: the Linux kernel's fs/erofs/erofs_fs.h and what the code beside it
// checks, 6.1 to 6.18; names and numbers are the kernel's. docs/formats/erofs.md
// says which subset is written and why.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/endian.h"

namespace pagein::erofs {

inline constexpr uint32_t kBlockBits = 12;
inline constexpr uint64_t kBlock = 1u << kBlockBits;
inline constexpr uint64_t kSuperOffset = 1024;
inline constexpr uint32_t kSuperMagic = 0xe0f5e1e2;
inline constexpr uint64_t kSlot = 32;  // an inode's nid counts these from meta_blkaddr

inline constexpr uint32_t kCompatSuperChecksum = 0x1;
inline constexpr uint32_t kCompatMtime = 0x2;
inline constexpr uint32_t kIncompatChunkedFile = 0x4;
inline constexpr uint32_t kIncompatDeviceTable = 0x8;

struct SuperBlock {
  le32 magic;
  le32 checksum;  // crc32c, this field 0, from here to the end of the block
  le32 feature_compat;
  uint8_t block_bits;
  uint8_t ext_slots;
  le16 root_nid;
  le64 inodes;
  le64 build_time;
  le32 build_time_nsec;
  le32 blocks;
  le32 meta_blkaddr;
  le32 xattr_blkaddr;
  uint8_t uuid[16];
  uint8_t volume_name[16];
  le32 feature_incompat;
  le16 compression_algorithms;
  le16 extra_devices;
  le16 device_table_slot;  // times sizeof(DeviceSlot)
  uint8_t dir_block_bits;
  uint8_t xattr_prefix_count;
  le32 xattr_prefix_start;
  le64 packed_nid;
  uint8_t xattr_filter_reserved;
  uint8_t reserved[23];
};
static_assert(sizeof(SuperBlock) == 128);

struct DeviceSlot {
  uint8_t tag[64];
  le32 blocks;
  le32 mapped_blkaddr;  // where it would lie if all devices were one
  uint8_t reserved[56];
};
static_assert(sizeof(DeviceSlot) == 128);

enum class Layout : uint8_t { flat_plain = 0, flat_inline = 2, chunk_based = 4 };

struct InodeExtended {
  le16 format;        // bit 0: extended; bits 1-3: Layout
  le16 xattr_icount;  // 0, or 1 + the 4-byte units after the xattr header
  le16 mode;
  le16 reserved;
  le64 size;
  le32 u;  // block address, device number or chunk format
  le32 ino;
  le32 uid;
  le32 gid;
  le64 mtime;
  le32 mtime_nsec;
  le32 nlink;
  uint8_t reserved2[16];
};
static_assert(sizeof(InodeExtended) == 64);

inline constexpr uint32_t kChunkBitsMask = 0x1f;
inline constexpr uint32_t kChunkIndexes = 0x20;
inline constexpr uint32_t kNullBlock = 0xffffffff;

struct ChunkIndex {
  le16 advise;
  le16 device_id;  // 0: this image; n: device n - 1 of the table
  le32 blkaddr;    // kNullBlock: a hole
};
static_assert(sizeof(ChunkIndex) == 8);

struct XattrBody {
  le32 name_filter;
  uint8_t shared_count;  // le32 ids follow, then inline entries
  uint8_t reserved[7];
};
static_assert(sizeof(XattrBody) == 12);

struct XattrEntry {
  uint8_t name_length;  // of what follows the prefix
  uint8_t name_index;
  le16 value_size;  // name and value follow, then zeros to a multiple of 4
};
static_assert(sizeof(XattrEntry) == 4);

struct XattrPrefix {
  uint8_t index;
  std::string_view text;
};
inline constexpr XattrPrefix kXattrPrefixes[] = {
    {1, "user."},
    {2, "system.posix_acl_access"},
    {3, "system.posix_acl_default"},
    {4, "trusted."},
    {6, "security."},
};

struct Dirent {
  le64 nid;
  le16 name_offset;  // in the block
  uint8_t file_type;
  uint8_t reserved;
};
static_assert(sizeof(Dirent) == 12);
inline constexpr size_t kMaxName = 255;
// Names that fill a block with the least room for them: what a directory block holds.
inline constexpr size_t kMaxDirents = kBlock / (sizeof(Dirent) + 1);

enum FileTypeCode : uint8_t {
  kTypeRegular = 1,
  kTypeDirectory = 2,
  kTypeCharDevice = 3,
  kTypeBlockDevice = 4,
  kTypeFifo = 5,
  kTypeSymlink = 7,
};

// crc32c without the final inversion, as the kernel's crc32c(seed, ...).
uint32_t crc32c(uint32_t seed, const uint8_t* data, size_t size);

// The kernel's new_encode_dev: 12 bits of major, 20 of minor.
constexpr uint32_t encode_device(uint32_t major, uint32_t minor) {
  return (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12);
}
constexpr uint32_t device_major(uint32_t code) { return (code >> 8) & 0xfff; }
constexpr uint32_t device_minor(uint32_t code) { return (code & 0xff) | ((code >> 12) & 0xfff00); }

}  // namespace pagein::erofs
