// Threads that verify, inflate and write.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"

namespace pagein::fetch {

enum class Weight {
  normal,  // somebody waits for the result
  // Gets less of the CPU than others. Not SCHED_IDLE: on a busy machine such a
  // thread may not run for minutes, and it shares locks with demand.
  low,
};

// Runs tasks in the order they were posted, several at once. Thread-safe.
// Tasks may post. stop() (or the destructor) runs what is queued, then joins.
class WorkerPool {
 public:
  WorkerPool(std::string name, size_t threads, Weight weight);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // The scheduler's id of the calling thread, for boost().
  static int current_thread();
  // Lets a thread of a low pool run as a normal one until its task ends:
  // somebody has begun to wait for that task. A no-op for other threads.
  static void boost(int thread);

  // Never blocks. After stop() the task is dropped.
  void post(std::function<void()> task);
  void stop();

 private:
  void run();

  const std::string name_;
  const Weight weight_;
  Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> queue_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace pagein::fetch
