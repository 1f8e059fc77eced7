// Fetches runs of layers' spans ahead of the reads that will want them, by
// ranges of the layers themselves.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "fetch/layer_pager.h"

namespace pagein::fetch {

// At prefetch priority, in the order in which they were added, a few at once;
// what is there or on its way meanwhile is left out. Thread-safe; never blocks.
class RangePrefetch : public std::enable_shared_from_this<RangePrefetch> {
 public:
  // `ended` is called once, after start() or inside it, when nothing is left or
  // too much has failed; not after cancel(). On any thread, without a lock.
  RangePrefetch(size_t max_flights, std::function<void()> ended);

  // Before start(). A run that goes on where another one of the layer ends is
  // fetched together with that.
  void add(const std::shared_ptr<LayerPager>& pager, Run run);
  void start();
  // Starts no more, drops what waits. What is under way ends by itself.
  void cancel();

 private:
  struct Item {
    std::shared_ptr<LayerPager> pager;
    Run run;
  };
  void pump();
  void on_flight_done(const Status& status);

  const size_t max_flights_;
  Mutex mutex_;
  std::function<void()> ended_ GUARDED_BY(mutex_);
  std::deque<Item> items_ GUARDED_BY(mutex_);
  // By layer: the end of each of its runs, and which item that is.
  std::unordered_map<const LayerPager*, std::unordered_map<size_t, size_t>> ends_
      GUARDED_BY(mutex_);
  size_t flights_ GUARDED_BY(mutex_) = 0;
  size_t starting_ GUARDED_BY(mutex_) = 0;  // of them, those that pump() is at
  size_t failures_ GUARDED_BY(mutex_) = 0;
};

}  // namespace pagein::fetch
