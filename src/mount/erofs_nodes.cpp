#include "mount/erofs_nodes.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "mount/gather_read.h"

namespace pagein::mount {
namespace {

using erofs::Reader;

constexpr uint64_t kFirstNode = FUSE_ROOT_ID + 1;

// A position in a directory listing: block and entry of it, plus 1 (the kernel's
// 0 is the start).
constexpr uint64_t kEntriesBits = 12;
static_assert(erofs::kMaxDirents < (1u << kEntriesBits));

// Damaged metadata (this node wrote it) is an error to the reader.
int errno_of(const Error& error) {
  if (error.code == Code::not_found) return ENOENT;
  return error.code == Code::corrupt_input ? EUCLEAN : EIO;
}

class ErofsNodes : public FuseNodes {
 public:
  ErofsNodes(std::shared_ptr<const MetadataFile> metadata, std::vector<NodeDevice> devices)
      : metadata_(std::move(metadata)),
        reader_(metadata_->reader()),
        root_(reader_.super().root_nid),
        devices_(std::move(devices)) {}

  uint64_t init_flags() const override {
    return FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_CACHE_SYMLINKS | FUSE_POSIX_ACL |
           FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT;
  }
  // As from a disk.
  int read_error(int) const override { return EIO; }

  int lookup(uint64_t parent, std::string_view name, fuse_entry_out& out) override {
    if (name.size() > erofs::kMaxName) return ENAMETOOLONG;
    const Result<Reader::Inode> directory = inode(parent);
    if (!directory.ok()) return errno_of(directory.error());
    if (!S_ISDIR(directory->mode)) return ENOTDIR;
    const auto entry = reader_.find(*directory, name);
    if (!entry.ok()) return errno_of(entry.error());
    // No entry is an answer, too: the kernel remembers it.
    out.entry_valid = kFuseForever;
    if (!*entry) return 0;
    return describe((*entry)->nid, out);
  }

  int attributes(uint64_t node, fuse_attr& out) override {
    const Result<Reader::Inode> found = inode(node);
    if (!found.ok()) return errno_of(found.error());
    return attributes(*found, out);
  }

  // Nothing is kept for an open file, and contents never change: the kernel need
  // not ask (and caches as with FOPEN_KEEP_CACHE and FOPEN_CACHE_DIR).
  int open(uint64_t, fuse_open_out&) override { return ENOSYS; }
  int open_directory(uint64_t, fuse_open_out&) override { return ENOSYS; }

  int read_directory(uint64_t node, const fuse_read_in& in, Listing listing, Bytes& out) override {
    const Result<Reader::Inode> directory = inode(node);
    if (!directory.ok()) return errno_of(directory.error());
    if (!S_ISDIR(directory->mode)) return ENOTDIR;
    uint64_t block = in.offset >> kEntriesBits;
    size_t skip = in.offset & ((1u << kEntriesBits) - 1);
    for (;; ++block, skip = 0) {
      const auto entries = reader_.list_block(*directory, block);
      if (!entries.ok()) return errno_of(entries.error());
      if (entries->empty()) return 0;
      for (size_t i = skip; i < entries->size(); ++i) {
        const int error = append((*entries)[i], (block << kEntriesBits) + i + 1, listing, in, out);
        if (error != 0) return error < 0 ? 0 : error;
      }
    }
  }

  void statfs(fuse_kstatfs& out) override {
    out.bsize = erofs::kBlock;
    out.frsize = erofs::kBlock;
    out.namelen = erofs::kMaxName;
    out.files = reader_.super().inodes;
    out.blocks = reader_.super().blocks;
    for (const Reader::Device& device : reader_.devices()) out.blocks += device.blocks;
  }

  int read_link(uint64_t node, std::string_view& out) override {
    const Result<Reader::Inode> found = inode(node);
    if (!found.ok()) return errno_of(found.error());
    if (!S_ISLNK(found->mode)) return EINVAL;
    const Result<std::string_view> target = reader_.symlink(*found);
    if (!target.ok()) return errno_of(target.error());
    out = *target;
    return 0;
  }

  int xattr(uint64_t node, std::string_view name, std::string_view& out) override {
    const Result<Reader::Xattrs> all = xattrs(node);
    if (!all.ok()) return errno_of(all.error());
    for (const auto& [key, value] : *all) {
      if (key != name) continue;
      out = value;  // into the metadata
      return 0;
    }
    return ENODATA;
  }

  int xattr_names(uint64_t node, std::string& out) override {
    const Result<Reader::Xattrs> all = xattrs(node);
    if (!all.ok()) return errno_of(all.error());
    for (const auto& [key, value] : *all) out.append(key).push_back('\0');
    return 0;
  }

  int seek(uint64_t node, uint64_t offset, uint32_t whence, uint64_t& out) override {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return EINVAL;
    const Result<Reader::Inode> found = inode(node);
    if (!found.ok()) return errno_of(found.error());
    if (!S_ISREG(found->mode)) return EINVAL;
    if (offset >= found->size) return ENXIO;
    const bool want_hole = whence == SEEK_HOLE;
    while (offset < found->size) {
      const auto run = reader_.run_at(*found, offset, found->size - offset);
      if (!run.ok()) return errno_of(run.error());
      if (run->hole == want_hole) break;
      offset += run->length;
    }
    if (offset >= found->size && !want_hole) return ENXIO;
    out = offset;  // the end of a file counts as a hole
    return 0;
  }

  std::optional<uint64_t> file_size(uint64_t node) override {
    const Result<Reader::Inode> found = inode(node);
    if (!found.ok() || !S_ISREG(found->mode)) return std::nullopt;
    return found->size;
  }

  void read(uint64_t node, uint64_t offset, ReadReply reply) override {
    const Result<Reader::Inode> found = inode(node);
    if (!found.ok()) return reply.error(EIO);
    const auto first = reader_.run_at(*found, offset, reply.length());
    if (!first.ok()) return reply.error(EIO);
    if (!first->hole && first->length == reply.length()) {
      return read_device(*first, std::move(reply));
    }
    read_runs(*found, offset, std::move(reply));
  }

 private:
  // Of the kernel's node id, which may be anything.
  Result<Reader::Inode> inode(uint64_t node) const {
    if (node == FUSE_ROOT_ID) return reader_.inode(root_);
    if (node < kFirstNode) return Error(Code::not_found, "no such node");
    return reader_.inode(node - kFirstNode);
  }
  uint64_t node_of(uint64_t nid) const { return nid == root_ ? FUSE_ROOT_ID : nid + kFirstNode; }

  Result<Reader::Xattrs> xattrs(uint64_t node) const {
    ASSIGN_OR_RETURN(const Reader::Inode found, inode(node));
    return reader_.xattrs(found);
  }

  int attributes(const Reader::Inode& from, fuse_attr& out) const {
    out.ino = node_of(from.nid);
    out.size = from.size;
    out.mode = from.mode;
    out.nlink = from.nlink;
    out.uid = from.uid;
    out.gid = from.gid;
    out.blksize = erofs::kBlock;
    out.atime = out.mtime = out.ctime = static_cast<uint64_t>(from.mtime_sec);
    out.atimensec = out.mtimensec = out.ctimensec = from.mtime_nsec;
    uint64_t stored = from.size;
    if (S_ISREG(from.mode)) {
      const Result<uint64_t> bytes = reader_.stored_bytes(from);
      if (!bytes.ok()) return errno_of(bytes.error());
      stored = *bytes;
    } else if (S_ISCHR(from.mode) || S_ISBLK(from.mode)) {
      out.rdev = from.u;  // in the kernel's encoding, as FUSE has it
    }
    out.blocks = (stored + 511) / 512;
    return 0;
  }

  int describe(uint64_t nid, fuse_entry_out& out) const {
    const Result<Reader::Inode> found = reader_.inode(nid);
    if (!found.ok()) return errno_of(found.error());
    out.nodeid = node_of(nid);
    out.entry_valid = kFuseForever;
    out.attr_valid = kFuseForever;
    return attributes(*found, out.attr);
  }

  // 0, an errno, or -1 where there is no more room.
  int append(const Reader::Entry& entry, uint64_t position, Listing listing, const fuse_read_in& in,
             Bytes& out) const {
    fuse_dirent head{};
    head.ino = node_of(entry.nid);
    head.off = position;
    if (entry.file_type < std::size(kTypes)) head.type = kTypes[entry.file_type];
    fuse_entry_out attributes{};
    const bool dots = entry.name == "." || entry.name == "..";  // no node: not looked up
    if (listing == Listing::with_attributes && !dots) {
      if (const int error = describe(entry.nid, attributes); error != 0) return error;
    }
    const fuse_entry_out* with = listing == Listing::with_attributes ? &attributes : nullptr;
    return append_dirent(head, entry.name, with, in.size, out) ? 0 : -1;
  }

  void read_device(const Reader::Run& run, ReadReply reply) const {
    const NodeDevice& device = devices_[run.device];
    if (device.file) device.file->read(run.device_byte, std::move(reply));
    else reply.file(device.local->get(), run.device_byte);
  }

  // Of a file with holes, or one that adjoins nothing.
  void read_runs(const Reader::Inode& file, uint64_t offset, ReadReply reply) const {
    const uint32_t length = reply.length();
    struct Part {
      Reader::Run run;
      uint32_t at;
    };
    std::vector<Part> parts;
    for (uint32_t done = 0; done < length;) {
      const auto run = reader_.run_at(file, offset + done, length - done);
      if (!run.ok()) return reply.error(EIO);
      if (!run->hole) parts.push_back({*run, done});
      done += static_cast<uint32_t>(run->length);
    }
    const auto gather = std::make_shared<GatherRead>(std::move(reply));
    std::vector<ReadReply> replies;
    for (const Part& part : parts) {
      replies.push_back(gather->part(part.at, static_cast<uint32_t>(part.run.length)));
    }
    for (size_t i = 0; i < parts.size(); ++i) read_device(parts[i].run, std::move(replies[i]));
  }

  // erofs::FileTypeCode as directory entries have it.
  static constexpr uint8_t kTypes[] = {0,
                                       S_IFREG >> 12,
                                       S_IFDIR >> 12,
                                       S_IFCHR >> 12,
                                       S_IFBLK >> 12,
                                       S_IFIFO >> 12,
                                       S_IFSOCK >> 12,
                                       S_IFLNK >> 12};

  const std::shared_ptr<const MetadataFile> metadata_;
  const Reader& reader_;
  const uint64_t root_;
  const std::vector<NodeDevice> devices_;
};

}  // namespace

std::shared_ptr<FuseNodes> make_erofs_nodes(std::shared_ptr<const MetadataFile> metadata,
                                            std::vector<NodeDevice> devices) {
  return std::make_shared<ErofsNodes>(std::move(metadata), std::move(devices));
}

}  // namespace pagein::mount
