#include "node/read_recorder.h"

#include <algorithm>

namespace pagein::node {

void ReadRecorder::note(const store::Layer& layer, uint64_t data_offset, uint64_t length) {
  const auto range = layer.index()->layout.tar_range(data_offset, length);
  if (!range) return;  // zeros that no layer has
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - begin_);
  MutexLock lock(mutex_);
  const auto [it, first] = last_.try_emplace(layer.id());
  Last& last = it->second;
  if (!first && last.data_end == data_offset) {
    startup::TraceRead& read = reads_[last.read];
    read.length = std::max(read.offset + read.length, range->end) - read.offset;
  } else if (reads_.size() < kMaxRecordedReads) {
    last.read = reads_.size();
    reads_.push_back({layer.index()->diff_id, range->begin, range->end - range->begin,
                      static_cast<uint64_t>(ms.count())});
  } else {
    if (first) last_.erase(it);
    return;
  }
  last.data_end = data_offset + length;
}

std::vector<startup::TraceRead> ReadRecorder::reads() const {
  MutexLock lock(mutex_);
  return reads_;
}

size_t ReadRecorder::count() const {
  MutexLock lock(mutex_);
  return reads_.size();
}

}  // namespace pagein::node
