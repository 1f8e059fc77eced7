// Where the members of an archive (docker save, OCI archive) lie in its file: a
// pass over the headers alone, so that blobs can be read in place.
//
// Not the reader of image layers (src/tar): this one needs names, types and
// places only, and skips contents by seeking. ustar, GNU long names, pax path,
// linkpath and size (POSIX.1-2017 pax; GNU tar manual "Basic Tar Format").
#pragma once

#include <functional>
#include <map>
#include <string>

#include "base/file.h"
#include "base/result.h"

namespace pagein::registry {

inline constexpr size_t kMaxArchiveMembers = 200'000;
inline constexpr size_t kMaxArchiveHeader = 1 << 20;  // of one pax or long-name record

struct ArchiveMember {
  uint64_t offset = 0;
  uint64_t size = 0;
  std::string link;  // target of a link (symlink or hard), as written; else ""
  bool symbolic = false;
};

class ArchiveIndex {
 public:
  // Reads exactly out.size() bytes at `offset`.
  using ReadAt = std::function<Status(uint64_t offset, std::span<uint8_t> out)>;

  // unsupported: a compressed archive; corrupt_input: not a tar.
  static Result<ArchiveIndex> read(const ReadAt& read_at, uint64_t file_size);

  // By normalised path ("a/b"), links followed; nullptr: no such regular file.
  const ArchiveMember* find(const std::string& path) const;
  const std::map<std::string, ArchiveMember>& members() const { return members_; }

 private:
  std::map<std::string, ArchiveMember> members_;
};

}  // namespace pagein::registry
