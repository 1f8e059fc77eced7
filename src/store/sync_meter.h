// How many bytes all layers together have written that no sync has covered.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/mutex.h"

namespace pagein::store {

// Writers count, one thread waits for the moment to sync. Thread-safe; writers
// never wait for more than a wake-up. Bytes.
class SyncMeter {
 public:
  explicit SyncMeter(uint64_t limit) : limit_(limit) {}

  void wrote(uint64_t bytes);
  // Covered by a sync, or of no more use.
  void settled(uint64_t bytes) { bytes_.fetch_sub(bytes, std::memory_order_relaxed); }
  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

  // Returns when the limit has been reached since the last call, after
  // `timeout`, or once stop() was called. Where a sync fails the bytes stay
  // above the limit: that wakes nobody, so a full disk makes no busy loop.
  void wait(std::chrono::milliseconds timeout);
  void stop();

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> bytes_{0};
  Mutex mutex_;
  CondVar wake_;
  bool reached_ GUARDED_BY(mutex_) = false;
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace pagein::store
