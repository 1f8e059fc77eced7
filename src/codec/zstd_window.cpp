#include "codec/zstd_window.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace pagein::codec {
namespace {

constexpr uint64_t kMinSize = 64 << 10;

}  // namespace

void ZstdWindow::begin_frame(uint64_t offset, uint64_t window) {
  const uint64_t size = std::bit_ceil(std::max(window, kMinSize));
  if (size > size_) {
    history_ = {};
    saved_ = {};
    history_ = ZeroedMemory(size);
    saved_ = ZeroedMemory(size);
    size_ = size;
    known_.assign(size / 64, 0);
  }
  end_ = offset;
  stop();
}

void ZstdWindow::append(ByteView bytes) {
  if (bytes.size() > size_) {
    end_ += bytes.size() - size_;
    bytes = bytes.last(size_);
  }
  while (!bytes.empty()) {
    const uint64_t at = end_ & (size_ - 1);
    const size_t n = std::min<uint64_t>(bytes.size(), size_ - at);
    std::memcpy(history_.data() + at, bytes.data(), n);
    end_ += n;
    bytes = bytes.subspan(n);
  }
}

void ZstdWindow::record(uint64_t boundary) {
  boundary_ = boundary;
  kept_ = 0;
  std::fill(known_.begin(), known_.end(), 0);
}

// All of it is in the history now, whatever of it was kept before.
void ZstdWindow::keep(uint64_t source, uint64_t length) {
  const uint64_t farthest = std::min(boundary_ - source, size_);
  length = std::min(length, farthest);
  mark(farthest - length, farthest - 1);
  for (uint64_t from = boundary_ - farthest; length > 0;) {
    const uint64_t at = from & (size_ - 1);
    const uint64_t n = std::min(length, size_ - at);
    std::memcpy(saved_.data() + at, history_.data() + at, n);
    from += n;
    length -= n;
  }
}

// Bits `first` to `last`.
void ZstdWindow::mark(uint64_t first, uint64_t last) {
  for (uint64_t word = first / 64; word <= last / 64; ++word) {
    uint64_t bits = ~uint64_t{0};
    if (word == first / 64) bits &= ~uint64_t{0} << (first % 64);
    if (word == last / 64) bits &= ~uint64_t{0} >> (63 - last % 64);
    kept_ += static_cast<uint64_t>(std::popcount(bits & ~known_[word]));
    known_[word] |= bits;
  }
}

std::vector<WindowRun> ZstdWindow::take(Bytes* bytes) const {
  std::vector<WindowRun> runs;
  bytes->clear();
  bytes->reserve(kept_);
  for (size_t word = known_.size(); word-- > 0;) {
    for (uint64_t bits = known_[word]; bits != 0;) {
      const auto bit = static_cast<unsigned>(std::bit_width(bits)) - 1;
      bits &= ~(uint64_t{1} << bit);
      const uint64_t distance = word * 64 + bit + 1;
      if (!runs.empty() && runs.back().distance - runs.back().length == distance) {
        ++runs.back().length;
      } else {
        runs.push_back({distance, 1});
      }
      bytes->push_back(saved_.data()[(boundary_ - distance) & (size_ - 1)]);
    }
  }
  return runs;
}

}  // namespace pagein::codec
