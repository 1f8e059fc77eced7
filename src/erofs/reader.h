// Reads the EROFS images that writer.h makes: for the mount engines that serve
// them themselves, for tests and dumps. Not a general EROFS reader: extended
// inodes, 4 KiB blocks, uncompressed layouts and chunk indexes only; anything else
// is `unsupported`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "erofs/format.h"

namespace pagein::erofs {

// A view of bytes that must outlive it; the bytes may be anything. All results are
// checked: offsets lie in the image, names are names, device blocks exist.
// corrupt_input says what breaks the format. Thread-safe after open().
class Reader {
 public:
  struct Device {
    std::string tag;
    uint64_t blocks;
    uint64_t mapped_block;
  };
  struct Inode {
    uint64_t nid = 0;
    uint64_t offset = 0;  // in the image, bytes
    Layout layout = Layout::flat_plain;
    uint32_t mode = 0;  // with the type's bits, as st_mode
    uint32_t uid = 0;
    uint32_t gid = 0;
    uint32_t nlink = 0;
    uint32_t u = 0;
    uint64_t size = 0;
    int64_t mtime_sec = 0;
    uint32_t mtime_nsec = 0;
    uint32_t xattr_size = 0;

    uint64_t behind() const { return offset + sizeof(InodeExtended) + xattr_size; }
  };
  struct Entry {
    std::string_view name;
    uint64_t nid;
    uint8_t file_type;
  };
  struct Extent {
    uint64_t file_offset;
    uint64_t length;  // bytes, cut at the file's end
    uint32_t device;  // 0-based
    uint64_t block;   // of the device
  };
  // What a file's bytes from some offset on are: zeros, or bytes of a device.
  struct Run {
    uint64_t length = 0;  // bytes
    bool hole = true;
    uint32_t device = 0;       // 0-based
    uint64_t device_byte = 0;  // where on it
  };
  using Xattrs = std::vector<std::pair<std::string, std::string_view>>;

  // Checks the superblock, its checksum and the device table.
  static Result<Reader> open(ByteView image);

  const SuperBlock& super() const { return super_; }
  const std::vector<Device>& devices() const { return devices_; }
  uint64_t image_size() const { return image_.size(); }

  Result<Inode> inode(uint64_t nid) const;
  // In stored order, which is checked to ascend; "." and ".." included.
  Result<std::vector<Entry>> list(const Inode& directory) const;
  // The entries of block `index` of a directory; empty behind the last one.
  Result<std::vector<Entry>> list_block(const Inode& directory, uint64_t index) const;
  // By binary search over the blocks.
  Result<std::optional<Entry>> find(const Inode& directory, std::string_view name) const;
  Result<std::string_view> symlink(const Inode& inode) const;
  Result<Xattrs> xattrs(const Inode& inode) const;  // in stored order
  // Ascending; adjoining chunks are one extent, holes none.
  Result<std::vector<Extent>> extents(const Inode& inode) const;
  // The longest run from `offset` on, which is in the file, but not more than
  // `want` bytes (not 0).
  Result<Run> run_at(const Inode& inode, uint64_t offset, uint64_t want) const;
  // Bytes of the file that are on a device, rounded up to blocks.
  Result<uint64_t> stored_bytes(const Inode& inode) const;

 private:
  explicit Reader(ByteView image) : image_(image) {}
  Result<ByteView> range(uint64_t offset, uint64_t size, std::string_view what) const;
  // A flat inode's block `index`, cut at its end.
  Result<ByteView> block(const Inode& inode, uint64_t index) const;
  Status parse_dirents(ByteView block, std::vector<Entry>* out) const;
  struct ChunkTable {
    unsigned bits = 0;  // a chunk has 2^bits bytes
    ByteView indexes;
    uint64_t count() const { return indexes.size() / sizeof(ChunkIndex); }
  };
  Result<ChunkTable> chunk_table(const Inode& inode) const;
  // Chunk `i`, cut at the file's end.
  Result<Run> chunk(const Inode& inode, const ChunkTable& table, uint64_t i) const;
  // Appends the entry at `offset`; returns its stored size.
  Result<uint64_t> xattr_at(uint64_t offset, uint64_t end, Xattrs* out) const;

  ByteView image_;
  SuperBlock super_{};
  std::vector<Device> devices_;
};

}  // namespace pagein::erofs
