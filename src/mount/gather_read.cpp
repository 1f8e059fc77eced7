#include "mount/gather_read.h"

#include <algorithm>
#include <cerrno>

namespace pagein::mount {

// The last holder is the last part's answer (or its loss).
GatherRead::~GatherRead() {
  const int error = error_.load();
  if (answered_.load() != asked_.load()) whole_.leave();
  else if (error != 0) whole_.error(error);
  else whole_.data(bytes_);
}

ReadReply GatherRead::part(uint32_t offset, uint32_t length) {
  asked_.fetch_add(1);
  return ReadReply(shared_from_this(), offset, length);
}

void GatherRead::finish_data(uint64_t part, uint32_t, std::span<const ByteView> pieces) {
  auto to = bytes_.begin() + static_cast<std::ptrdiff_t>(part);
  for (const ByteView& piece : pieces) to = std::copy(piece.begin(), piece.end(), to);
  answered_.fetch_add(1);
}

void GatherRead::finish_file(uint64_t part, uint32_t length, int fd, uint64_t offset) {
  const std::span<uint8_t> bytes = std::span(bytes_).subspan(static_cast<size_t>(part), length);
  if (!pread_full(fd, bytes, offset).ok()) return finish_error(part, length, EIO);
  answered_.fetch_add(1);
}

void GatherRead::finish_error(uint64_t, uint32_t, int error) {
  error_.store(error);
  answered_.fetch_add(1);
}

}  // namespace pagein::mount
