#include "erofs/reader.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/byte_reader.h"

namespace pagein::erofs {
namespace {

Error corrupt(std::string what) {
  return Error(Code::corrupt_input, "EROFS image: " + std::move(what));
}
Error at_inode(const Reader::Inode& inode, std::string_view what) {
  return corrupt("inode " + std::to_string(inode.nid) + ": " + std::string(what));
}

template <typename T>
T load(ByteView bytes) {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) == 1);
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

}  // namespace

Result<ByteView> Reader::range(uint64_t offset, uint64_t size, std::string_view what) const {
  if (offset > image_.size() || size > image_.size() - offset) {
    return corrupt(std::string(what) + " at " + std::to_string(offset) + " lies outside");
  }
  return image_.subspan(offset, size);
}

Result<Reader> Reader::open(ByteView image) {
  Reader reader(image);
  if (image.size() < kBlock) return corrupt("shorter than a block");
  SuperBlock& super = reader.super_;
  super = load<SuperBlock>(image.subspan(kSuperOffset, sizeof super));
  if (super.magic != kSuperMagic) return corrupt("no EROFS superblock");
  if (super.block_bits != kBlockBits || super.ext_slots != 0 || super.dir_block_bits != 0 ||
      super.xattr_prefix_count != 0 ||
      super.feature_incompat != (kIncompatChunkedFile | kIncompatDeviceTable)) {
    return Error(Code::unsupported, "EROFS image: not one that this program writes");
  }
  SuperBlock zeroed = super;
  zeroed.checksum = 0;
  uint32_t sum = crc32c(~0u, reinterpret_cast<const uint8_t*>(&zeroed), sizeof zeroed);
  const uint64_t behind = kSuperOffset + sizeof super;
  sum = crc32c(sum, image.data() + behind, kBlock - behind);
  if (!(super.feature_compat & kCompatSuperChecksum) || sum != super.checksum) {
    return corrupt("the superblock's checksum is wrong");
  }
  if (super.blocks > image.size() / kBlock) return corrupt("shorter than its superblock says");
  reader.image_ = image.first(super.blocks * kBlock);
  const uint64_t table = super.device_table_slot * sizeof(DeviceSlot);
  for (uint64_t i = 0; i < super.extra_devices; ++i) {
    ASSIGN_OR_RETURN(const ByteView bytes, reader.range(table + i * sizeof(DeviceSlot),
                                                        sizeof(DeviceSlot), "a device slot"));
    const auto slot = load<DeviceSlot>(bytes);
    std::string tag(as_text({slot.tag, sizeof slot.tag}));
    tag.resize(std::min(tag.find('\0'), tag.size()));
    reader.devices_.push_back({std::move(tag), slot.blocks, slot.mapped_blkaddr});
  }
  return reader;
}

Result<Reader::Inode> Reader::inode(uint64_t nid) const {
  const uint64_t meta = super_.meta_blkaddr * kBlock;
  if (nid > image_.size() / kSlot) return corrupt("inode " + std::to_string(nid) + " lies outside");
  Inode inode;
  inode.nid = nid;
  inode.offset = meta + nid * kSlot;
  ASSIGN_OR_RETURN(const ByteView bytes, range(inode.offset, sizeof(InodeExtended), "an inode"));
  const auto disk = load<InodeExtended>(bytes);
  const unsigned layout = disk.format >> 1;
  if (!(disk.format & 1) || (layout != 0 && layout != 2 && layout != 4)) {
    return Error(Code::unsupported,
                 "EROFS image: inode of a format that this program does not write");
  }
  inode.layout = static_cast<Layout>(layout);
  inode.mode = disk.mode;
  inode.uid = disk.uid;
  inode.gid = disk.gid;
  inode.nlink = disk.nlink;
  inode.u = disk.u;
  inode.size = disk.size;
  inode.mtime_sec = static_cast<int64_t>(uint64_t{disk.mtime});
  inode.mtime_nsec = disk.mtime_nsec;
  if (inode.size > INT64_MAX) return at_inode(inode, "its size is negative");
  if (disk.xattr_icount > 0)
    inode.xattr_size = sizeof(XattrBody) + uint64_t{4} * (disk.xattr_icount - 1u);
  RETURN_IF_ERROR(
      range(inode.offset, sizeof(InodeExtended) + inode.xattr_size, "an inode's xattrs"));
  return inode;
}

Result<ByteView> Reader::block(const Inode& inode, uint64_t index) const {
  const uint64_t begin = index * kBlock;
  const uint64_t size = std::min(kBlock, inode.size - begin);
  if (inode.layout == Layout::chunk_based) return at_inode(inode, "data on a device");
  if (inode.layout == Layout::flat_inline && size < kBlock) {
    if (inode.behind() % kBlock + size > kBlock) return at_inode(inode, "its tail crosses a block");
    return range(inode.behind(), size, "an inline tail");
  }
  return range(inode.u * kBlock + begin, size, "a data block");
}

Result<std::vector<Reader::Entry>> Reader::list(const Inode& directory) const {
  if (!S_ISDIR(directory.mode)) return at_inode(directory, "not a directory");
  if (directory.size > image_.size()) return at_inode(directory, "larger than the image");
  std::vector<Entry> out;
  for (uint64_t index = 0; index * kBlock < directory.size; ++index) {
    ASSIGN_OR_RETURN(const ByteView bytes, block(directory, index));
    RETURN_IF_ERROR(parse_dirents(bytes, &out));
  }
  for (size_t i = 1; i < out.size(); ++i) {
    if (out[i - 1].name >= out[i].name) return at_inode(directory, "its names do not ascend");
  }
  return out;
}

Status Reader::parse_dirents(ByteView bytes, std::vector<Entry>* out) const {
  if (bytes.size() < sizeof(Dirent)) return corrupt("a directory block without entries");
  const uint32_t names = load<Dirent>(bytes).name_offset;
  if (names < sizeof(Dirent) || names % sizeof(Dirent) != 0 || names > bytes.size()) {
    return corrupt("a directory block's first name is out of place");
  }
  const size_t count = names / sizeof(Dirent);
  for (size_t i = 0; i < count; ++i) {
    const auto dirent = load<Dirent>(bytes.subspan(i * sizeof(Dirent)));
    uint64_t end = bytes.size();
    if (i + 1 < count) end = load<Dirent>(bytes.subspan((i + 1) * sizeof(Dirent))).name_offset;
    if (dirent.name_offset < names || dirent.name_offset > end || end > bytes.size()) {
      return corrupt("a directory entry's name is out of place");
    }
    std::string_view name = as_text(bytes.subspan(dirent.name_offset, end - dirent.name_offset));
    if (i + 1 == count) name = name.substr(0, name.find('\0'));
    if (name.empty() || name.size() > kMaxName || name.find('/') != name.npos ||
        name.find('\0') != name.npos) {
      return corrupt("a directory entry has an impossible name");
    }
    out->push_back({name, dirent.nid, dirent.file_type});
  }
  return {};
}

Result<std::vector<Reader::Entry>> Reader::list_block(const Inode& directory,
                                                      uint64_t index) const {
  std::vector<Entry> out;
  if (!S_ISDIR(directory.mode)) return at_inode(directory, "not a directory");
  if (index >= (directory.size + kBlock - 1) / kBlock) return out;
  ASSIGN_OR_RETURN(const ByteView bytes, block(directory, index));
  RETURN_IF_ERROR(parse_dirents(bytes, &out));
  return out;
}

Result<std::optional<Reader::Entry>> Reader::find(const Inode& directory,
                                                  std::string_view name) const {
  uint64_t low = 0;
  uint64_t high = (directory.size + kBlock - 1) / kBlock;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    ASSIGN_OR_RETURN(const std::vector<Entry> entries, list_block(directory, middle));
    if (entries.empty()) return at_inode(directory, "a directory block without entries");
    if (name < entries.front().name) {
      high = middle;
    } else if (name > entries.back().name) {
      low = middle + 1;
    } else {
      const auto it =
          std::lower_bound(entries.begin(), entries.end(), name,
                           [](const Entry& e, std::string_view wanted) { return e.name < wanted; });
      if (it != entries.end() && it->name == name) return *it;
      return std::nullopt;
    }
  }
  return std::nullopt;
}

Result<std::string_view> Reader::symlink(const Inode& inode) const {
  if (!S_ISLNK(inode.mode)) return at_inode(inode, "not a symbolic link");
  if (inode.size == 0 || inode.size >= kBlock) return at_inode(inode, "its target's size is wrong");
  ASSIGN_OR_RETURN(const ByteView bytes, block(inode, 0));
  return as_text(bytes);
}

Result<uint64_t> Reader::xattr_at(uint64_t offset, uint64_t end, Xattrs* out) const {
  if (offset > end || end - offset < sizeof(XattrEntry)) return corrupt("an xattr lies outside");
  ASSIGN_OR_RETURN(const ByteView bytes, range(offset, sizeof(XattrEntry), "an xattr"));
  const auto entry = load<XattrEntry>(bytes);
  const uint64_t size = sizeof entry + entry.name_length + entry.value_size;
  if (size > end - offset) return corrupt("an xattr is larger than its place");
  ASSIGN_OR_RETURN(const ByteView all, range(offset, size, "an xattr"));
  const auto* prefix =
      std::find_if(std::begin(kXattrPrefixes), std::end(kXattrPrefixes),
                   [&](const XattrPrefix& p) { return p.index == entry.name_index; });
  if (prefix == std::end(kXattrPrefixes)) return corrupt("an xattr's name has an unknown prefix");
  const std::string_view text = as_text(all.subspan(sizeof entry));
  out->emplace_back(std::string(prefix->text) + std::string(text.substr(0, entry.name_length)),
                    text.substr(entry.name_length));
  return round_up(size, 4);
}

Result<Reader::Xattrs> Reader::xattrs(const Inode& inode) const {
  Xattrs out;
  if (inode.xattr_size == 0) return out;
  uint64_t at = inode.offset + sizeof(InodeExtended);
  const uint64_t end = at + inode.xattr_size;
  const uint64_t shared = load<XattrBody>(image_.subspan(at)).shared_count;
  at += sizeof(XattrBody);
  if (shared * 4 > end - at) return at_inode(inode, "its shared xattrs do not fit");
  for (uint64_t i = 0; i < shared; ++i, at += 4) {
    const uint64_t id = load_le<uint32_t>(image_.data() + at);
    RETURN_IF_ERROR(xattr_at(super_.xattr_blkaddr * kBlock + id * 4, image_.size(), &out));
  }
  while (at < end) {
    ASSIGN_OR_RETURN(const uint64_t size, xattr_at(at, end, &out));
    at += size;
  }
  return out;
}

Result<Reader::ChunkTable> Reader::chunk_table(const Inode& inode) const {
  ChunkTable table;
  if (!S_ISREG(inode.mode)) return at_inode(inode, "not a regular file");
  if (inode.size == 0) return table;
  if (inode.layout != Layout::chunk_based || !(inode.u & kChunkIndexes)) {
    return at_inode(inode, "its data is not on a device");
  }
  table.bits = (inode.u & kChunkBitsMask) + kBlockBits;
  const uint64_t count = ((inode.size - 1) >> table.bits) + 1;
  if (count > image_.size() / sizeof(ChunkIndex)) return at_inode(inode, "its chunks lie outside");
  ASSIGN_OR_RETURN(table.indexes, range(round_up(inode.behind(), sizeof(ChunkIndex)),
                                        count * sizeof(ChunkIndex), "a chunk table"));
  return table;
}

Result<Reader::Run> Reader::chunk(const Inode& inode, const ChunkTable& table, uint64_t i) const {
  const auto index = load<ChunkIndex>(table.indexes.subspan(i * sizeof(ChunkIndex)));
  Run run;
  run.length = std::min(uint64_t{1} << table.bits, inode.size - (i << table.bits));
  if (index.blkaddr == kNullBlock) return run;
  run.hole = false;
  run.device = index.device_id - 1u;
  run.device_byte = index.blkaddr * kBlock;
  if (run.device >= devices_.size() || index.blkaddr > devices_[run.device].blocks ||
      (run.length + kBlock - 1) / kBlock > devices_[run.device].blocks - index.blkaddr) {
    return at_inode(inode, "a chunk lies outside its device");
  }
  return run;
}

Result<std::vector<Reader::Extent>> Reader::extents(const Inode& inode) const {
  std::vector<Extent> out;
  ASSIGN_OR_RETURN(const ChunkTable table, chunk_table(inode));
  for (uint64_t i = 0; i < table.count(); ++i) {
    ASSIGN_OR_RETURN(const Run run, chunk(inode, table, i));
    if (run.hole) continue;
    const Extent e{i << table.bits, run.length, run.device, run.device_byte / kBlock};
    Extent* last = out.empty() ? nullptr : &out.back();
    if (last != nullptr && last->device == e.device &&
        last->file_offset + last->length == e.file_offset &&
        last->block + last->length / kBlock == e.block) {
      last->length += e.length;
    } else {
      out.push_back(e);
    }
  }
  return out;
}

Result<Reader::Run> Reader::run_at(const Inode& inode, uint64_t offset, uint64_t want) const {
  ASSIGN_OR_RETURN(const ChunkTable table, chunk_table(inode));
  if (offset >= inode.size) return at_inode(inode, "a read behind its end");
  uint64_t i = offset >> table.bits;
  ASSIGN_OR_RETURN(Run run, chunk(inode, table, i));
  const uint64_t skipped = offset - (i << table.bits);
  run.length -= skipped;
  run.device_byte += skipped;
  for (++i; run.length < want && i < table.count(); ++i) {
    ASSIGN_OR_RETURN(const Run next, chunk(inode, table, i));
    const bool adjoins =
        next.hole == run.hole && (run.hole || (next.device == run.device &&
                                               next.device_byte == run.device_byte + run.length));
    if (!adjoins) break;
    run.length += next.length;
  }
  run.length = std::min(run.length, want);
  return run;
}

Result<uint64_t> Reader::stored_bytes(const Inode& inode) const {
  ASSIGN_OR_RETURN(const ChunkTable table, chunk_table(inode));
  uint64_t bytes = 0;
  for (uint64_t i = 0; i < table.count(); ++i) {
    ASSIGN_OR_RETURN(const Run run, chunk(inode, table, i));
    if (!run.hole) bytes += round_up(run.length, kBlock);
  }
  return bytes;
}

}  // namespace pagein::erofs
