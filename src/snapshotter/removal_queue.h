// Tells the backend to drop layers that no snapshot refers to, never while a
// Prepare may be about to refer to one of them again.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace pagein::snapshotter {

// Between a backend's "I can serve this layer" and the row that refers to it,
// a Remove of the last other row would make the backend drop the layer. So
// drops wait until no Prepare is under way, and a Prepare waits while a drop
// runs (it is local and short). Thread-safe.
class RemovalQueue {
 public:
  // layer, snapshot name. Checks that the layer is still unused, then drops
  // it; called without the lock.
  using Drop = std::function<void(const std::string& layer, const std::string& name)>;
  explicit RemovalQueue(Drop drop) : drop_(std::move(drop)) {}

  // Held while a layer is offered to the backend and recorded.
  class Preparing {
   public:
    explicit Preparing(RemovalQueue& queue) : queue_(queue) { queue_.begin_prepare(); }
    ~Preparing() { queue_.end_prepare(); }
    Preparing(const Preparing&) = delete;
    Preparing& operator=(const Preparing&) = delete;

   private:
    RemovalQueue& queue_;
  };

  void add(const std::string& layer, const std::string& name);

 private:
  void begin_prepare();
  void end_prepare();
  void drain();

  const Drop drop_;
  Mutex mutex_;
  CondVar changed_;
  size_t preparing_ GUARDED_BY(mutex_) = 0;
  bool dropping_ GUARDED_BY(mutex_) = false;
  std::vector<std::pair<std::string, std::string>> waiting_ GUARDED_BY(mutex_);
};

}  // namespace pagein::snapshotter
