// Downloads layer blobs into containerd's content store, several at once.
// Inside this folder only.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <stop_token>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "containerd/client.h"
#include "containerd/plan.h"

namespace pagein::containerd {

struct FetcherOptions {
  size_t parallel = 3;
  // Bytes of that layer that have come; from the fetching threads.
  std::function<void(size_t layer, uint64_t bytes)> on_bytes;
};

// Its threads end in the destructor (what runs is cancelled). Thread-safe.
// client, plan and source must outlive it.
class LayerFetcher {
 public:
  LayerFetcher(const Client& client, const PullPlan& plan, registry::ImageSource& source,
               FetcherOptions options);
  ~LayerFetcher();

  // Queues the layer, once; those asked for first are fetched first.
  void start(size_t layer);
  // Blocks until the layer (started) is in the content store, or failed.
  Status wait(size_t layer);

 private:
  enum class State { idle, queued, running, done };
  struct Layer {
    State state = State::idle;
    Status status;
  };

  struct OnStop {
    LayerFetcher& fetcher;
    void operator()() const { fetcher.cancel(); }
  };

  void work();
  Status fetch(size_t layer);
  void cancel();

  std::stop_source stop_;
  const std::unique_ptr<Client> client_;  // cancelled by stop_
  const PullPlan& plan_;
  registry::ImageSource& source_;
  const FetcherOptions options_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<Layer> layers_ GUARDED_BY(mutex_);
  std::deque<size_t> queue_ GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
  const std::stop_callback<OnStop> on_stop_;  // the caller's stop is ours; last: it may run at once
};

}  // namespace pagein::containerd
