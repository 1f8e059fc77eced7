// Keeps the store below its limit, and room on a disk that is full.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>
#include <thread>

#include "base/mutex.h"
#include "store/layer_store.h"

namespace pagein::node {

struct EvictorOptions {
  uint64_t max_bytes = 0;     // of all layers; 0: no limit of this kind
  unsigned max_percent = 80;  // of the file system that the store lies on
  // Lets go of layers that are held only in case they are needed soon.
  std::function<void()> let_go = [] {};
};

// Owns a thread, which evicts when the store calls for room. Thread-safe; calls
// block on disk.
class Evictor {
 public:
  // `store` must outlive it; `root` is on the store's file system. Sets the
  // store's limit.
  Evictor(store::LayerStore& store, std::filesystem::path root, EvictorOptions options);
  ~Evictor();
  Evictor(const Evictor&) = delete;
  Evictor& operator=(const Evictor&) = delete;

  // Evicts what no mount needs until layers take at most `target` bytes; without
  // one, as much as the limit and a full disk ask for.
  store::LayerStore::Evicted make_room(std::optional<uint64_t> target = std::nullopt);

  // Since the start.
  uint64_t evicted_layers() const { return layers_.load(); }
  uint64_t evicted_bytes() const { return bytes_.load(); }

  // Ends the thread.
  void stop();

 private:
  void loop();
  bool rest();
  uint64_t target() const;

  store::LayerStore& store_;
  const std::filesystem::path root_;
  const EvictorOptions options_;
  std::atomic<uint64_t> layers_{0};
  std::atomic<uint64_t> bytes_{0};
  Mutex mutex_;
  CondVar wake_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace pagein::node
