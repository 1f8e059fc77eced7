#include "store/span_io.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>

#include "base/byte_reader.h"

namespace pagein::store {
namespace {

// Neighbouring files are written in one call, with the zeros between them,
// as long as the zeros are fewer than a system call costs.
constexpr uint64_t kJoinGap = 16 << 10;
constexpr uint64_t kJoinLimit = 2 << 20;

// A piece of the span: `length` bytes at `tar_offset` that are file data at
// `data_offset`.
struct Piece {
  uint64_t tar_offset;
  uint64_t data_offset;
  uint64_t length;
};

// Calls f(Piece) for each extent's part in the span, in order.
template <typename F>
Status for_each_piece(const index::LayerIndex& index, size_t span, F&& f) {
  const uint64_t begin = index.spans[span].uncompressed_begin;
  const uint64_t end = index.span_end(span);
  const auto [first, last] = index.layout.extents_in_tar(begin, end);
  for (size_t i = first; i < last; ++i) {
    const index::Extent& extent = index.layout.extents()[i];
    const uint64_t from = std::max(begin, extent.tar_offset);
    const uint64_t to = std::min(end, extent.tar_offset + extent.length);
    if (from >= to) continue;
    RETURN_IF_ERROR(f(Piece{from, extent.data_offset + (from - extent.tar_offset), to - from}));
  }
  return {};
}

class Summer {
 public:
  Summer() : state_(XXH3_createState()) { XXH3_128bits_reset(state_.get()); }
  void update(ByteView bytes) { XXH3_128bits_update(state_.get(), bytes.data(), bytes.size()); }
  SpanSum finish() {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    SpanSum sum;
    store_le(sum.data(), hash.low64);
    store_le(sum.data() + 8, hash.high64);
    return sum;
  }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_;
};

// Joins pieces that lie close together in the data file into larger transfers.
class Joiner {
 public:
  explicit Joiner(int fd) : fd_(fd) {}

  Status add(uint64_t data_offset, ByteView bytes) {
    const uint64_t end = begin_ + buffer_.size();
    if (!buffer_.empty() &&
        (data_offset - end > kJoinGap || data_offset + bytes.size() - begin_ > kJoinLimit)) {
      RETURN_IF_ERROR(flush());
    }
    if (buffer_.empty()) {
      begin_ = data_offset;
    } else {
      buffer_.resize(static_cast<size_t>(data_offset - begin_), 0);
    }
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    return {};
  }

  Status flush() {
    if (buffer_.empty()) return {};
    RETURN_IF_ERROR(pwrite_full(fd_, buffer_, begin_));
    buffer_.clear();
    return {};
  }

 private:
  int fd_;
  uint64_t begin_ = 0;
  Bytes buffer_;
};

}  // namespace

RestLayout::RestLayout(const index::LayerIndex& index) {
  begin_.reserve(index.spans.size());
  const auto extents = index.layout.extents();
  size_t next = 0;
  uint64_t data_before = 0;  // file bytes in the tar before the current span
  for (const index::Span& span : index.spans) {
    const uint64_t begin = span.uncompressed_begin;
    while (next < extents.size() && extents[next].tar_offset + extents[next].length <= begin) {
      data_before += extents[next].length;
      ++next;
    }
    uint64_t inside = 0;
    if (next < extents.size() && extents[next].tar_offset < begin) {
      inside = begin - extents[next].tar_offset;
    }
    begin_.push_back(begin - data_before - inside);
  }
}

Result<SpanSum> write_span_bytes(const index::LayerIndex& index, const RestLayout& rest,
                                 size_t span, ByteView tar, SpanFiles files) {
  const uint64_t begin = index.spans[span].uncompressed_begin;
  Summer summer;
  Joiner data(files.data_fd);
  Bytes outside;
  uint64_t cursor = begin;
  RETURN_IF_ERROR(for_each_piece(index, span, [&](const Piece& piece) -> Status {
    const ByteView headers = tar.subspan(cursor - begin, piece.tar_offset - cursor);
    outside.insert(outside.end(), headers.begin(), headers.end());
    const ByteView bytes = tar.subspan(piece.tar_offset - begin, piece.length);
    summer.update(bytes);
    cursor = piece.tar_offset + piece.length;
    return data.add(piece.data_offset, bytes);
  }));
  RETURN_IF_ERROR(data.flush());
  const ByteView tail = tar.subspan(cursor - begin);
  outside.insert(outside.end(), tail.begin(), tail.end());
  if (files.rest_fd >= 0) {
    RETURN_IF_ERROR(pwrite_full(files.rest_fd, outside, rest.rest_begin(span)));
  }
  return summer.finish();
}

Status read_span_bytes(const index::LayerIndex& index, const RestLayout& rest, size_t span,
                       std::span<uint8_t> tar, SpanFiles files) {
  const uint64_t begin = index.spans[span].uncompressed_begin;
  uint64_t cursor = begin;
  uint64_t rest_at = rest.rest_begin(span);
  auto headers_until = [&](uint64_t end) -> Status {
    const uint64_t length = end - cursor;
    RETURN_IF_ERROR(pread_full(files.rest_fd, tar.subspan(cursor - begin, length), rest_at));
    rest_at += length;
    cursor = end;
    return {};
  };
  RETURN_IF_ERROR(for_each_piece(index, span, [&](const Piece& piece) -> Status {
    RETURN_IF_ERROR(headers_until(piece.tar_offset));
    RETURN_IF_ERROR(
        pread_full(files.data_fd, tar.subspan(cursor - begin, piece.length), piece.data_offset));
    cursor += piece.length;
    return {};
  }));
  return headers_until(index.span_end(span));
}

Result<SpanSum> sum_span_bytes(const index::LayerIndex& index, size_t span, int data_fd) {
  Summer summer;
  Bytes buffer;
  RETURN_IF_ERROR(for_each_piece(index, span, [&](const Piece& piece) -> Status {
    buffer.resize(piece.length);
    RETURN_IF_ERROR(pread_full(data_fd, buffer, piece.data_offset));
    summer.update(buffer);
    return {};
  }));
  return summer.finish();
}

}  // namespace pagein::store
