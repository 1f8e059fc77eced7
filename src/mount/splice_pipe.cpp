#include "mount/splice_pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace pagein::mount {
namespace {

// The largest pipe that needs no privilege (fs.pipe-max-size): 256 pages. One
// is for the header, one for a file offset within a page.
constexpr int kPipeBytes = 1 << 20;
constexpr uint64_t kMaxLength = kPipeBytes - 2 * 4096;

}  // namespace

SplicePipe& SplicePipe::of_thread() {
  thread_local SplicePipe pipe;
  return pipe;
}

bool SplicePipe::open() {
  if (read_) return true;
  if (unusable_) return false;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
  read_ = UniqueFd(ends[0]);
  write_ = UniqueFd(ends[1]);
  if (::fcntl(write_.get(), F_SETPIPE_SZ, kPipeBytes) < kPipeBytes) {
    unusable_ = true;  // the user's pipes are full (fs.pipe-user-pages-soft)
    read_.reset();
    write_.reset();
    return false;
  }
  return true;
}

bool SplicePipe::fits(uint64_t length) { return length <= kMaxLength && open(); }

bool SplicePipe::fill(ByteView header, int file, uint64_t offset, uint64_t length) {
  if (::write(write_.get(), header.data(), header.size()) != static_cast<ssize_t>(header.size())) {
    return false;
  }
  auto position = static_cast<loff_t>(offset);
  while (length > 0) {
    const ssize_t n = ::splice(file, &position, write_.get(), nullptr, length, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    length -= static_cast<uint64_t>(n);
  }
  return true;
}

bool SplicePipe::send(int out, ByteView header, int file, uint64_t offset, uint64_t length) {
  if (!open()) return false;
  if (!fill(header, file, offset, length)) {
    // With what is in it.
    read_.reset();
    write_.reset();
    return false;
  }
  const size_t total = header.size() + length;
  // Copies rather than moves pages (no SPLICE_F_MOVE): a moved page would leave
  // the file's own cache.
  const ssize_t n = ::splice(read_.get(), nullptr, out, nullptr, total, 0);
  if (n != static_cast<ssize_t>(total)) {
    read_.reset();
    write_.reset();
  }
  return true;
}

}  // namespace pagein::mount
