// Files and folders: whole reads and writes, replaced atomically, made durable.
// All functions block; all are thread-safe (they hold no state). Descriptors
// are opened O_CLOEXEC.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace pagein {

using Bytes = std::vector<uint8_t>;
using ByteView = std::span<const uint8_t>;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// open(2) with O_CLOEXEC; `mode` counts with O_CREAT.
Result<UniqueFd> open_file(const std::filesystem::path& path, int flags, unsigned mode = 0644);

// The whole file; exhausted if it is longer than `cap` bytes.
Result<std::string> read_file(const std::filesystem::path& path, uint64_t cap = 64ULL << 20);

// Exactly out.size() bytes from `offset`; corrupt_input if the file ends first.
Status pread_full(int fd, std::span<uint8_t> out, uint64_t offset);
Status pwrite_full(int fd, ByteView in, uint64_t offset);
Status write_full(int fd, ByteView in);

// Write to a temporary name beside `path`, fsync, rename over it, fsync the
// folder: after a crash the old or the new content is there, never a mix.
Status replace_file(const std::filesystem::path& path, ByteView content, unsigned mode = 0644);

Status fsync_dir(const std::filesystem::path& dir);
Status make_dirs(const std::filesystem::path& dir, unsigned mode = 0755);

// Removed with all below it in the destructor (best effort; does not cross
// mounts). Movable.
class TempDir {
 public:
  // Below `parent` (default: $TMPDIR or /tmp), name starting with `prefix`.
  static Result<TempDir> make(std::string_view prefix, const std::filesystem::path& parent = {});
  TempDir(TempDir&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TempDir& operator=(TempDir&& other) noexcept;
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir();
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit TempDir(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace pagein
