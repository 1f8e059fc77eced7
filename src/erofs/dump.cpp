#include "erofs/dump.h"

#include <sys/stat.h>

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "tree/dump.h"

namespace pagein::erofs {
namespace {

using index::FileType;

Result<FileType> type_of(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return FileType::regular;
    case S_IFDIR: return FileType::directory;
    case S_IFLNK: return FileType::symlink;
    case S_IFCHR: return FileType::char_device;
    case S_IFBLK: return FileType::block_device;
    case S_IFIFO: return FileType::fifo;
    default: return Error(Code::corrupt_input, "EROFS image: an inode of unknown type");
  }
}

uint8_t code_of(FileType type) {
  switch (type) {
    case FileType::regular: return kTypeRegular;
    case FileType::directory: return kTypeDirectory;
    case FileType::symlink: return kTypeSymlink;
    case FileType::char_device: return kTypeCharDevice;
    case FileType::block_device: return kTypeBlockDevice;
    default: return kTypeFifo;
  }
}

// Confined to one dump().
class Dumper {
 public:
  explicit Dumper(const Reader& reader) : reader_(reader) {}

  Result<std::string> run() {
    RETURN_IF_ERROR(visit("", reader_.super().root_nid, kTypeDirectory, reader_.super().root_nid));
    for (size_t next = 0; next < queue_.size(); ++next) {
      const Pending directory = std::move(queue_[next]);
      RETURN_IF_ERROR(list(directory));
    }
    return std::move(out_);
  }

 private:
  struct Pending {
    std::string path;
    Reader::Inode inode;
    uint64_t parent;
  };

  Status list(const Pending& directory);
  Status visit(std::string path, uint64_t nid, uint8_t code, uint64_t parent);
  Result<tree::DumpLine> describe(const Reader::Inode& inode, FileType type);

  const Reader& reader_;
  std::string out_;
  std::vector<Pending> queue_;
  std::unordered_map<uint64_t, std::string> first_path_;
  uint64_t listed_ = 0;
};

Status Dumper::list(const Pending& directory) {
  listed_ += directory.inode.size;
  if (listed_ > reader_.image_size()) {
    return Error(Code::corrupt_input, "EROFS image: directories share their blocks");
  }
  ASSIGN_OR_RETURN(const auto entries, reader_.list(directory.inode));
  int dots = 0;
  for (const Reader::Entry& e : entries) {
    if (e.name == "." || e.name == "..") {
      if (e.nid != (e.name == "." ? directory.inode.nid : directory.parent)) {
        return Error(Code::corrupt_input, "EROFS image: '.' or '..' leads elsewhere");
      }
      ++dots;
      continue;
    }
    std::string path = directory.path.empty() ? std::string() : directory.path + "/";
    path += e.name;
    RETURN_IF_ERROR(visit(std::move(path), e.nid, e.file_type, directory.inode.nid));
  }
  if (dots != 2) return Error(Code::corrupt_input, "EROFS image: '.' or '..' is missing");
  return {};
}

Status Dumper::visit(std::string path, uint64_t nid, uint8_t code, uint64_t parent) {
  ASSIGN_OR_RETURN(const Reader::Inode inode, reader_.inode(nid));
  ASSIGN_OR_RETURN(const FileType type, type_of(inode.mode));
  if (code_of(type) != code) {
    return Error(Code::corrupt_input, "EROFS image: a name's type is not its inode's");
  }
  ASSIGN_OR_RETURN(tree::DumpLine line, describe(inode, type));
  const auto [it, added] = first_path_.try_emplace(nid, path);
  if (!added) {
    if (type == FileType::directory) {
      return Error(Code::corrupt_input, "EROFS image: a directory has two names");
    }
    line.link_to = it->second;
  }
  line.path = path;
  tree::append_line(line, &out_);
  if (out_.size() > std::max<uint64_t>(64 << 20, 64 * reader_.image_size())) {
    return Error(Code::exhausted, "the dump grows too large");
  }
  if (type == FileType::directory) queue_.push_back({std::move(path), inode, parent});
  return {};
}

Result<tree::DumpLine> Dumper::describe(const Reader::Inode& inode, FileType type) {
  tree::DumpLine line;
  tree::Attributes& a = line.attributes;
  a.type = type;
  a.mode = inode.mode & 07777;
  a.uid = inode.uid;
  a.gid = inode.gid;
  a.mtime_sec = inode.mtime_sec;
  a.mtime_nsec = inode.mtime_nsec;
  a.nlink = inode.nlink;
  if (type == FileType::regular) {
    a.size = inode.size;
    ASSIGN_OR_RETURN(const auto extents, reader_.extents(inode));
    for (const auto& e : extents) {
      line.extents.push_back({e.file_offset, e.length, e.device, e.block * kBlock});
    }
  } else if (type == FileType::symlink) {
    a.size = inode.size;
    ASSIGN_OR_RETURN(const std::string_view target, reader_.symlink(inode));
    line.target = target;
  } else if (type == FileType::char_device || type == FileType::block_device) {
    a.dev_major = device_major(inode.u);
    a.dev_minor = device_minor(inode.u);
  }
  ASSIGN_OR_RETURN(const auto xattrs, reader_.xattrs(inode));
  for (const auto& [name, value] : xattrs) line.xattrs.emplace_back(name, value);
  std::sort(line.xattrs.begin(), line.xattrs.end());
  return line;
}

}  // namespace

Result<std::string> dump(const Reader& reader) { return Dumper(reader).run(); }

}  // namespace pagein::erofs
