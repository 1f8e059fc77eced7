// A bounded queue between two threads, and the way back for what it carried.
#pragma once

#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace pagein::convert {

// Buffers are used again, since allocating them costs a third more CPU. Item
// is movable, has clear(), and its constructor makes an empty one. Thread-safe;
// takes block.
template <typename Item>
class RecyclingQueue {
 public:
  // At most `items` exist.
  explicit RecyclingQueue(size_t items) : items_(items) {}

  // An empty item to fill; nullopt once the consumer has given up.
  std::optional<Item> take_free() {
    MutexLock lock(mutex_);
    while (free_.empty() && made_ >= items_ && !abandoned_) wake_.wait(mutex_);
    if (abandoned_) return std::nullopt;
    if (free_.empty()) {
      ++made_;
      return std::optional<Item>(std::in_place);
    }
    std::optional<Item> item(std::move(free_.back()));
    free_.pop_back();
    return item;
  }
  void push(Item item) {
    MutexLock lock(mutex_);
    full_.push_back(std::move(item));
    wake_.notify_all();
  }
  void close() {
    MutexLock lock(mutex_);
    closed_ = true;
    wake_.notify_all();
  }
  // nullopt at the end.
  std::optional<Item> take_full() {
    MutexLock lock(mutex_);
    while (full_.empty() && !closed_) wake_.wait(mutex_);
    if (full_.empty()) return std::nullopt;
    std::optional<Item> item(std::move(full_.front()));
    full_.pop_front();
    return item;
  }
  void give_back(Item item) {
    item.clear();
    MutexLock lock(mutex_);
    free_.push_back(std::move(item));
    wake_.notify_all();
  }
  // By the consumer: nothing more will be taken.
  void abandon() {
    MutexLock lock(mutex_);
    abandoned_ = true;
    wake_.notify_all();
  }

 private:
  const size_t items_;
  Mutex mutex_;
  CondVar wake_;
  std::deque<Item> full_ GUARDED_BY(mutex_);
  std::vector<Item> free_ GUARDED_BY(mutex_);
  size_t made_ GUARDED_BY(mutex_) = 0;
  bool closed_ GUARDED_BY(mutex_) = false;
  bool abandoned_ GUARDED_BY(mutex_) = false;
};

}  // namespace pagein::convert
