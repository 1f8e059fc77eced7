// A mutex that clang's -Wthread-safety understands.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define PAGEIN_TSA(x) __attribute__((x))
#else
#define PAGEIN_TSA(x)
#endif
#define GUARDED_BY(m) PAGEIN_TSA(guarded_by(m))
#define REQUIRES(...) PAGEIN_TSA(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) PAGEIN_TSA(locks_excluded(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS PAGEIN_TSA(no_thread_safety_analysis)

namespace pagein {

class PAGEIN_TSA(capability("mutex")) Mutex {
 public:
  void lock() PAGEIN_TSA(acquire_capability()) { mutex_.lock(); }
  void unlock() PAGEIN_TSA(release_capability()) { mutex_.unlock(); }
  bool try_lock() PAGEIN_TSA(try_acquire_capability(true)) { return mutex_.try_lock(); }

 private:
  std::mutex mutex_;
};

class PAGEIN_TSA(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) PAGEIN_TSA(acquire_capability(mutex)) : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() PAGEIN_TSA(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Wait with the Mutex held (it is released while waiting): cv.wait(mutex).
using CondVar = std::condition_variable_any;

}  // namespace pagein
