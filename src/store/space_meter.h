// How many bytes the store may take on disk, and how many it takes.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/mutex.h"

namespace pagein::store {

// Writers ask before they write, one thread waits for the moment to make room.
// What is counted between two recounts is what was asked for, not what the file
// system made of it. Thread-safe; nothing but wait() blocks. Bytes.
class SpaceMeter {
 public:
  static constexpr uint64_t kNoLimit = UINT64_MAX;

  // Where the limit is lower than what is used, nothing is admitted any more.
  void set_limit(uint64_t bytes);
  uint64_t limit() const { return limit_.load(std::memory_order_relaxed); }
  uint64_t used() const { return used_.load(std::memory_order_relaxed); }

  // Counts the bytes and says yes, or says no and calls for room. Room is called
  // for a little before the limit, too.
  bool admit(uint64_t bytes);
  // They were not written after all, or are gone.
  void freed(uint64_t bytes);
  // What the disk says, which may call for room.
  void recounted(uint64_t bytes);

  // The disk had no room: as if the limit were reached.
  void call_for_room();

  // Down to how many bytes room should be made, so that it is not called for at
  // every write.
  uint64_t target() const;

  // True when room was called for since the last call; false after `timeout` or
  // once stop() was called.
  bool wait(std::chrono::milliseconds timeout);
  void stop();

 private:
  std::atomic<uint64_t> limit_{kNoLimit};
  std::atomic<uint64_t> used_{0};
  Mutex mutex_;
  CondVar wake_;
  bool called_ GUARDED_BY(mutex_) = false;
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace pagein::store
