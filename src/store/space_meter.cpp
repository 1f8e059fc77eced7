#include "store/space_meter.h"

#include <algorithm>

namespace pagein::store {
namespace {

// In shares of the limit: where room is called for, and where making it ends.
constexpr uint64_t kCallAt = 20;    // 1/20 below the limit
constexpr uint64_t kTargetAt = 10;  // 1/10 below the limit

}  // namespace

void SpaceMeter::set_limit(uint64_t bytes) {
  limit_.store(bytes, std::memory_order_relaxed);
  if (used() > bytes - bytes / kCallAt) call_for_room();
}

bool SpaceMeter::admit(uint64_t bytes) {
  const uint64_t limit = this->limit();
  const uint64_t before = used_.fetch_add(bytes, std::memory_order_relaxed);
  const uint64_t call_at = limit - limit / kCallAt;
  if (before + bytes > limit) {
    used_.fetch_sub(bytes, std::memory_order_relaxed);
    call_for_room();
    return false;
  }
  if (before <= call_at && before + bytes > call_at) call_for_room();
  return true;
}

void SpaceMeter::recounted(uint64_t bytes) {
  used_.store(bytes, std::memory_order_relaxed);
  const uint64_t limit = this->limit();
  if (bytes > limit - limit / kCallAt) call_for_room();
}

void SpaceMeter::freed(uint64_t bytes) {
  uint64_t used = this->used();
  // A recount may have come between: never below nothing.
  while (!used_.compare_exchange_weak(used, used - std::min(used, bytes))) {
  }
}

uint64_t SpaceMeter::target() const {
  const uint64_t limit = this->limit();
  return limit - limit / kTargetAt;
}

void SpaceMeter::call_for_room() {
  {
    MutexLock lock(mutex_);
    called_ = true;
  }
  wake_.notify_all();
}

bool SpaceMeter::wait(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  MutexLock lock(mutex_);
  while (!called_ && !stopped_) {
    if (wake_.wait_until(mutex_, deadline) == std::cv_status::timeout) break;
  }
  const bool called = called_ && !stopped_;
  called_ = false;
  return called;
}

void SpaceMeter::stop() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
  }
  wake_.notify_all();
}

}  // namespace pagein::store
