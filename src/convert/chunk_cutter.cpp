#include "convert/chunk_cutter.h"

#include <algorithm>
#include <utility>

namespace pagein::convert {

void ChunkCutter::on_content(uint64_t begin, uint64_t length) {
  advance(begin);
  const uint64_t before = begin - last_;
  if (length <= target_) {
    // A chunk that is too short for its own takes the file in, whatever its size.
    if (before + length > target_ && before >= target_ / 2) cut(begin);
    return;
  }
  if (before >= target_ / 4) cut(begin);
  next_step_ = begin + target_;
  // A short rest stays with the piece before it.
  steps_end_ = begin + length - target_ / 4;
}

void ChunkCutter::on_read(uint64_t offset) { advance(offset); }

std::vector<uint64_t> ChunkCutter::take_cuts() { return std::exchange(cuts_, {}); }

void ChunkCutter::cut(uint64_t at) {
  if (at <= last_) return;
  last_ = at;
  cuts_.push_back(at);
}

// The limit counts from cuts that were made, so steps and limit are taken in
// the order of their places.
void ChunkCutter::advance(uint64_t offset) {
  for (;;) {
    const uint64_t limit = last_ + max_chunk();
    const bool step = next_step_ < steps_end_ && next_step_ <= offset;
    if (step && next_step_ <= limit) {
      cut(next_step_);
      next_step_ += target_;
    } else if (limit < offset) {
      cut(limit);
    } else {
      return;
    }
  }
}

}  // namespace pagein::convert
