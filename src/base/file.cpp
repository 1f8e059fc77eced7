#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <random>

namespace pagein {

void UniqueFd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

Result<UniqueFd> open_file(const std::filesystem::path& path, int flags, unsigned mode) {
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return errno_error(errno, "open " + path.string());
  return UniqueFd(fd);
}

Result<std::string> read_file(const std::filesystem::path& path, uint64_t cap) {
  ASSIGN_OR_RETURN(UniqueFd fd, open_file(path, O_RDONLY));
  std::string content;
  char buffer[64 << 10];
  for (;;) {
    ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(errno, "read " + path.string());
    if (n == 0) return content;
    if (content.size() + static_cast<size_t>(n) > cap) {
      return Error(Code::exhausted, path.string() + " is longer than the " + std::to_string(cap) +
                                        " bytes allowed here");
    }
    content.append(buffer, static_cast<size_t>(n));
  }
}

Status pread_full(int fd, std::span<uint8_t> out, uint64_t offset) {
  while (!out.empty()) {
    ssize_t n = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(errno, "pread");
    if (n == 0) {
      return Error(Code::corrupt_input, "file ends at or before offset " + std::to_string(offset) +
                                            ", " + std::to_string(out.size()) +
                                            " more bytes expected");
    }
    out = out.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

Status pwrite_full(int fd, ByteView in, uint64_t offset) {
  while (!in.empty()) {
    ssize_t n = ::pwrite(fd, in.data(), in.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(errno, "pwrite");
    in = in.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

Status write_full(int fd, ByteView in) {
  while (!in.empty()) {
    ssize_t n = ::write(fd, in.data(), in.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(errno, "write");
    in = in.subspan(static_cast<size_t>(n));
  }
  return {};
}

namespace {
std::string random_suffix() {
  static constexpr char kAlphabet[] = "0123456789abcdefghijklmnopqrstuv";
  std::random_device source;
  std::string suffix;
  for (int i = 0; i < 12; ++i) suffix += kAlphabet[source() & 31];
  return suffix;
}
}  // namespace

Status replace_file(const std::filesystem::path& path, ByteView content, unsigned mode) {
  const std::filesystem::path dir = path.has_parent_path() ? path.parent_path() : ".";
  const std::filesystem::path temp = dir / ("." + path.filename().string() + "." + random_suffix());
  auto write = [&]() -> Status {
    ASSIGN_OR_RETURN(UniqueFd fd, open_file(temp, O_WRONLY | O_CREAT | O_EXCL, mode));
    RETURN_IF_ERROR(write_full(fd.get(), content));
    if (::fsync(fd.get()) != 0) return errno_error(errno, "fsync " + temp.string());
    if (::rename(temp.c_str(), path.c_str()) != 0) {
      return errno_error(errno, "rename to " + path.string());
    }
    return {};
  };
  if (Status status = write(); !status.ok()) {
    ::unlink(temp.c_str());
    return status.error().with_context("write " + path.string());
  }
  return fsync_dir(dir);
}

Status fsync_dir(const std::filesystem::path& dir) {
  ASSIGN_OR_RETURN(UniqueFd fd, open_file(dir, O_RDONLY | O_DIRECTORY));
  if (::fsync(fd.get()) != 0) return errno_error(errno, "fsync " + dir.string());
  return {};
}

Status make_dirs(const std::filesystem::path& dir, unsigned mode) {
  if (dir.empty() || dir == "/") return {};
  if (::mkdir(dir.c_str(), mode) == 0) return {};
  if (errno == EEXIST) {
    struct stat st;
    if (::stat(dir.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) return {};
    return errno_error(ENOTDIR, "make folder " + dir.string());
  }
  if (errno != ENOENT) return errno_error(errno, "make folder " + dir.string());
  RETURN_IF_ERROR(make_dirs(dir.parent_path(), mode));
  if (::mkdir(dir.c_str(), mode) != 0 && errno != EEXIST) {
    return errno_error(errno, "make folder " + dir.string());
  }
  return {};
}

Result<TempDir> TempDir::make(std::string_view prefix, const std::filesystem::path& parent) {
  std::filesystem::path base = parent;
  if (base.empty()) {
    const char* env = std::getenv("TMPDIR");
    base = env != nullptr && *env != '\0' ? env : "/tmp";
  }
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::filesystem::path path = base / (std::string(prefix) + random_suffix());
    if (::mkdir(path.c_str(), 0700) == 0) return TempDir(std::move(path));
    if (errno != EEXIST) return errno_error(errno, "make folder " + path.string());
  }
  return Error(Code::internal, "no free temporary name below " + base.string());
}

TempDir& TempDir::operator=(TempDir&& other) noexcept {
  if (this != &other) std::swap(path_, other.path_);
  return *this;
}

TempDir::~TempDir() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

}  // namespace pagein
