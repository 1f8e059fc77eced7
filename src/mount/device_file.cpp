#include "mount/device_file.h"

#include <cerrno>

namespace pagein::mount {

ReadReply& ReadReply::operator=(ReadReply&& other) noexcept {
  if (this != &other) {
    error(EIO);
    sink_ = std::move(other.sink_);
    unique_ = other.unique_;
    length_ = other.length_;
  }
  return *this;
}

ReadReply::~ReadReply() { error(EIO); }

void ReadReply::data(ByteView bytes) { pieces({&bytes, 1}); }

void ReadReply::pieces(std::span<const ByteView> pieces) {
  uint64_t total = 0;
  for (const ByteView& piece : pieces) total += piece.size();
  if (total != length_ || pieces.size() > kMaxPieces) return error(EIO);
  if (auto sink = std::exchange(sink_, nullptr)) sink->finish_data(unique_, length_, pieces);
}

void ReadReply::file(int fd, uint64_t offset) {
  if (auto sink = std::exchange(sink_, nullptr)) sink->finish_file(unique_, length_, fd, offset);
}

void ReadReply::error(int error) {
  // The kernel takes -511..0; more would end the connection's request as ours.
  if (error <= 0 || error >= 512) error = EIO;
  if (auto sink = std::exchange(sink_, nullptr)) sink->finish_error(unique_, length_, error);
}

void ReadReply::leave() { sink_.reset(); }

}  // namespace pagein::mount
