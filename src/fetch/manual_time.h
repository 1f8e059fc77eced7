// Time as a test wants it. For tests only.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <optional>

#include "base/mutex.h"
#include "net/http_client.h"

namespace pagein::fetch::testing {

// A clock that the test moves, and what is to run at a time. Thread-safe.
class ManualTime {
 public:
  net::Clock::time_point now() const {
    MutexLock lock(mutex_);
    return now_;
  }
  void run_after(std::chrono::milliseconds delay, std::function<void()> task) {
    MutexLock lock(mutex_);
    tasks_.emplace(now_ + delay, std::move(task));
  }
  // Runs what falls due, each at its time.
  void advance(std::chrono::milliseconds by) {
    mutex_.lock();
    const auto end = now_ + by;
    while (!tasks_.empty() && tasks_.begin()->first <= end) {
      const auto task = std::move(tasks_.begin()->second);
      now_ = std::max(now_, tasks_.begin()->first);
      tasks_.erase(tasks_.begin());
      mutex_.unlock();
      task();
      mutex_.lock();
    }
    now_ = end;
    mutex_.unlock();
  }
  // The time until the first of them; nothing: none.
  std::optional<std::chrono::milliseconds> next() const {
    MutexLock lock(mutex_);
    if (tasks_.empty()) return std::nullopt;
    return std::chrono::ceil<std::chrono::milliseconds>(tasks_.begin()->first - now_);
  }
  size_t waiting() const {
    MutexLock lock(mutex_);
    return tasks_.size();
  }

 private:
  mutable Mutex mutex_;
  net::Clock::time_point now_ GUARDED_BY(mutex_) = net::Clock::time_point(std::chrono::hours(1));
  std::multimap<net::Clock::time_point, std::function<void()>> tasks_ GUARDED_BY(mutex_);
};

}  // namespace pagein::fetch::testing
