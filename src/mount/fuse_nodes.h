// What a FUSE connection shows: the files and directories behind its node ids.
// Internal to mount.
#pragma once

#include <linux/fuse.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "mount/device_file.h"

namespace pagein::mount {

// Nothing ever changes: the kernel need not ask again (seconds).
inline constexpr uint64_t kFuseForever = 1u << 30;

// Answers the session's questions. Functions that return int answer 0 or a
// positive errno. Node ids are the same in every process that shows the same, so
// that a successor understands its predecessor's; FUSE_ROOT_ID is the root. They
// come from the kernel, but any value may be asked for. Thread-safe; must not
// block, but for read(), which follows DeviceFile::read.
class FuseNodes {
 public:
  virtual ~FuseNodes() = default;

  // INIT flags to accept beside the session's own.
  virtual uint64_t init_flags() const { return 0; }
  // What a reader gets where a read fails with `error`.
  virtual int read_error(int error) const { return error; }

  virtual int lookup(uint64_t parent, std::string_view name, fuse_entry_out& out) = 0;
  virtual int attributes(uint64_t node, fuse_attr& out) = 0;
  // ENOSYS: the kernel need not ask, also not for others.
  virtual int open(uint64_t node, fuse_open_out& out) = 0;
  virtual int open_directory(uint64_t node, fuse_open_out& out) = 0;

  enum class Listing { names, with_attributes };
  // Appends entries from position in.offset on to `out`, at most in.size bytes.
  virtual int read_directory(uint64_t node, const fuse_read_in& in, Listing listing,
                             Bytes& out) = 0;
  virtual void statfs(fuse_kstatfs& out) = 0;

  // The results are valid as long as this object.
  virtual int read_link(uint64_t, std::string_view&) { return EINVAL; }
  virtual int xattr(uint64_t, std::string_view, std::string_view&) { return ENOSYS; }
  virtual int xattr_names(uint64_t, std::string&) { return ENOSYS; }
  // lseek(2) with SEEK_DATA or SEEK_HOLE.
  virtual int seek(uint64_t, uint64_t, uint32_t, uint64_t&) { return ENOSYS; }

  // A regular file's size; nullopt where the node is none.
  virtual std::optional<uint64_t> file_size(uint64_t node) = 0;
  // [offset, offset + reply.length()) lies in the file.
  virtual void read(uint64_t node, uint64_t offset, ReadReply reply) = 0;
};

// A flat directory of the files, named "0", "1", ... in their order; node ids are
// FUSE_ROOT_ID + 1 and so on. `open_flags`: FOPEN_* of each file.
std::unique_ptr<FuseNodes> make_device_nodes(std::vector<std::shared_ptr<DeviceFile>> files,
                                             uint32_t open_flags);

// Appends a directory entry, with attributes where `entry` is given; false where
// there is no room for it in `limit` bytes.
bool append_dirent(const fuse_dirent& head, std::string_view name, const fuse_entry_out* entry,
                   size_t limit, Bytes& out);

}  // namespace pagein::mount
