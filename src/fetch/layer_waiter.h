// Who waits for spans of a layer. For LayerPager's own files.
#pragma once

#include <atomic>
#include <utility>

#include "fetch/layer_pager.h"

namespace pagein::fetch {

// `remaining` counts the spans, and one for who sets it up. The completion is
// called by the last finish(), with the first error.
struct LayerPager::Waiter {
  Completion done;
  std::atomic<size_t> remaining{1};
  Mutex mutex;
  Status status GUARDED_BY(mutex);

  void finish(const Status& result) {
    if (!result.ok()) {
      MutexLock lock(mutex);
      if (status.ok()) status = result;
    }
    if (remaining.fetch_sub(1) != 1) return;
    Status final_status;
    {
      MutexLock lock(mutex);
      final_status = std::move(status);
    }
    done(std::move(final_status));
  }
};

}  // namespace pagein::fetch
