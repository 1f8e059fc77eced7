#include "store/sync_meter.h"

namespace pagein::store {

void SyncMeter::wrote(uint64_t bytes) {
  const uint64_t before = bytes_.fetch_add(bytes, std::memory_order_relaxed);
  if (before >= limit_ || before + bytes < limit_) return;
  {
    MutexLock lock(mutex_);
    reached_ = true;
  }
  wake_.notify_all();
}

void SyncMeter::wait(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  MutexLock lock(mutex_);
  while (!reached_ && !stopped_) {
    if (wake_.wait_until(mutex_, deadline) == std::cv_status::timeout) break;
  }
  reached_ = false;
}

void SyncMeter::stop() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
  }
  wake_.notify_all();
}

}  // namespace pagein::store
