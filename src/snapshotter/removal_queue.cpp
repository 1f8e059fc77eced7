#include "snapshotter/removal_queue.h"

namespace pagein::snapshotter {

void RemovalQueue::add(const std::string& layer, const std::string& name) {
  {
    MutexLock lock(mutex_);
    waiting_.emplace_back(layer, name);
  }
  drain();
}

void RemovalQueue::begin_prepare() {
  MutexLock lock(mutex_);
  while (dropping_) changed_.wait(mutex_);
  ++preparing_;
}

void RemovalQueue::end_prepare() {
  {
    MutexLock lock(mutex_);
    --preparing_;
  }
  drain();
}

void RemovalQueue::drain() {
  for (;;) {
    std::vector<std::pair<std::string, std::string>> batch;
    {
      MutexLock lock(mutex_);
      if (preparing_ > 0 || dropping_ || waiting_.empty()) return;
      batch.swap(waiting_);
      dropping_ = true;
    }
    for (const auto& [layer, name] : batch) drop_(layer, name);
    MutexLock lock(mutex_);
    dropping_ = false;
    changed_.notify_all();
  }
}

}  // namespace pagein::snapshotter
