#include <sys/stat.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "mount/fuse_nodes.h"

namespace pagein::mount {
namespace {

constexpr uint64_t kFirstFileNode = FUSE_ROOT_ID + 1;

class DeviceNodes : public FuseNodes {
 public:
  DeviceNodes(std::vector<std::shared_ptr<DeviceFile>> files, uint32_t open_flags)
      : files_(std::move(files)), open_flags_(open_flags) {}

  int lookup(uint64_t parent, std::string_view name, fuse_entry_out& out) override {
    if (parent != FUSE_ROOT_ID) return ENOENT;
    uint32_t place = 0;
    const char* end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data(), end, place);
    const bool canonical = name.size() == 1 || !name.starts_with('0');
    out.nodeid = kFirstFileNode + place;
    if (error != std::errc() || stop != end || !canonical) return ENOENT;
    out.entry_valid = kFuseForever;
    out.attr_valid = kFuseForever;
    return attributes(out.nodeid, out.attr);
  }

  int attributes(uint64_t node, fuse_attr& out) override {
    out = {};
    out.ino = node;
    out.blksize = 4096;
    if (node == FUSE_ROOT_ID) {
      out.mode = S_IFDIR | 0500;
      out.nlink = 2;
      return 0;
    }
    const DeviceFile* file = file_of(node);
    if (file == nullptr) return ENOENT;
    out.mode = S_IFREG | 0400;
    out.nlink = 1;
    out.size = file->size();
    out.blocks = (out.size + 511) / 512;
    return 0;
  }

  int open(uint64_t node, fuse_open_out& out) override {
    if (file_of(node) == nullptr) return ENOENT;
    out.fh = node - kFirstFileNode;
    out.open_flags = open_flags_;
    return 0;
  }
  int open_directory(uint64_t, fuse_open_out&) override { return 0; }

  int read_directory(uint64_t node, const fuse_read_in& in, Listing, Bytes& out) override {
    if (node != FUSE_ROOT_ID) return EINVAL;
    for (uint64_t place = in.offset; place < files_.size(); ++place) {
      fuse_dirent head{};
      head.ino = kFirstFileNode + place;
      head.off = place + 1;
      head.type = S_IFREG >> 12;
      if (!append_dirent(head, std::to_string(place), nullptr, in.size, out)) break;
    }
    return 0;
  }

  void statfs(fuse_kstatfs& out) override {
    out.files = files_.size();
    out.bsize = 4096;
    out.frsize = 4096;
    out.namelen = 255;
  }

  std::optional<uint64_t> file_size(uint64_t node) override {
    const DeviceFile* file = file_of(node);
    if (file == nullptr) return std::nullopt;
    return file->size();
  }
  void read(uint64_t node, uint64_t offset, ReadReply reply) override {
    file_of(node)->read(offset, std::move(reply));
  }

 private:
  // nullptr where there is none.
  DeviceFile* file_of(uint64_t node) const {
    if (node < kFirstFileNode || node - kFirstFileNode >= files_.size()) return nullptr;
    return files_[static_cast<size_t>(node - kFirstFileNode)].get();
  }

  const std::vector<std::shared_ptr<DeviceFile>> files_;
  const uint32_t open_flags_;
};

}  // namespace

std::unique_ptr<FuseNodes> make_device_nodes(std::vector<std::shared_ptr<DeviceFile>> files,
                                             uint32_t open_flags) {
  return std::make_unique<DeviceNodes>(std::move(files), open_flags);
}

bool append_dirent(const fuse_dirent& head, std::string_view name, const fuse_entry_out* entry,
                   size_t limit, Bytes& out) {
  const size_t prefix = entry != nullptr ? sizeof *entry : 0;
  const size_t size = FUSE_DIRENT_ALIGN(prefix + FUSE_NAME_OFFSET + name.size());
  const size_t at = out.size();
  if (size > limit || at > limit - size) return false;
  out.resize(at + size);
  uint8_t* to = out.data() + at;
  if (entry != nullptr) std::memcpy(to, entry, prefix);
  fuse_dirent with_length = head;
  with_length.namelen = static_cast<uint32_t>(name.size());
  std::memcpy(to + prefix, &with_length, FUSE_NAME_OFFSET);
  std::memcpy(to + prefix + FUSE_NAME_OFFSET, name.data(), name.size());
  return true;
}

}  // namespace pagein::mount
