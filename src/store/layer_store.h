// The folder of layers (docs/formats/store.md).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/mutex.h"
#include "base/result.h"
#include "store/layer.h"

namespace pagein::store {

struct LayerStoreOptions {
  // Unsynced bytes of all layers together at which wait_for_sync() returns.
  uint64_t sync_after = 64 << 20;
  // What all layers together may take on disk; a layer that has no room left
  // refuses to keep spans (exhausted).
  uint64_t max_bytes = SpaceMeter::kNoLimit;
};

// Owns ROOT/layers. Layers are shared: a layer stays open while anybody holds
// it. Thread-safe; blocks on disk I/O, where callers for one layer wait for
// each other and different layers do not. One process at a time (lock file).
class LayerStore {
 public:
  // Makes the folder where needed, takes its lock, removes half-made layers.
  // failed_precondition: another process has it.
  static Result<std::unique_ptr<LayerStore>> open(const std::filesystem::path& root,
                                                  const LayerStoreOptions& options = {});
  ~LayerStore();

  // The name of a layer: hex SHA-256 of its index head. Sharing by it is safe:
  // the head fixes every byte that the layer can ever deliver.
  static std::string id_of(ByteView head);

  // The layer of this head, made new where it is not there yet. `head` was
  // verified by the caller; corrupt_input where it does not parse.
  Result<std::shared_ptr<Layer>> create(ByteView head);
  // not_found; a layer that is too damaged to open is removed: not_found.
  Result<std::shared_ptr<Layer>> find(const std::string& id);

  // All names in the folder.
  std::vector<std::string> list() const;
  // failed_precondition while somebody holds the layer.
  Status remove(const std::string& id);

  struct Usage {
    uint64_t bytes = 0;  // allocated on disk
    size_t layers = 0;
  };
  Usage usage() const;
  // Tells space() what the disk says: file systems round up, and compress.
  void recount() { space_->recounted(usage().bytes); }

  // Drops what a layer has but for its head: it is still there, and empty.
  // failed_precondition while somebody holds it, so also while it is mounted.
  Status empty(const std::string& id);
  struct Evicted {
    uint64_t bytes = 0;  // on disk
    size_t layers = 0;
  };
  // Empties layers that nobody holds, those first that were not used for the
  // longest time, until all layers take at most `target` bytes or no such layer
  // is left. Quarantined layers stay: they are not to be fetched again.
  Evicted evict(uint64_t target);
  SpaceMeter& space() { return *space_; }

  // Syncs every open layer and marks it clean. For an orderly stop.
  Status close_cleanly();
  // Syncs open layers that have unsynced bytes, one after the other; who writes
  // to them goes on meanwhile.
  Status sync_all();
  // Until sync_all() should be called: options.sync_after bytes are unsynced,
  // or `timeout` has passed. At once from stop_waiting() on.
  void wait_for_sync(std::chrono::milliseconds timeout) { meter_->wait(timeout); }
  void stop_waiting() { meter_->stop(); }

 private:
  // While it lives, nobody else opens, makes, empties or removes this layer.
  class Turn;

  LayerStore(std::filesystem::path root, UniqueFd lock, const LayerStoreOptions& options);
  Result<std::shared_ptr<Layer>> load(const Turn& turn);
  Result<std::shared_ptr<Layer>> load_files(const std::string& id) const;
  Result<std::shared_ptr<Layer>> make(const Turn& turn, ByteView head);
  Result<TempDir> make_files(const std::string& id, ByteView head) const;
  Status set_aside(const std::string& id);
  uint64_t bytes_of(const std::string& id) const;
  std::vector<std::shared_ptr<Layer>> open_layers() const;

  const std::filesystem::path root_;  // ROOT/layers
  UniqueFd lock_;
  const std::shared_ptr<SyncMeter> meter_;
  const std::shared_ptr<SpaceMeter> space_ = std::make_shared<SpaceMeter>();
  mutable Mutex mutex_;
  CondVar turn_ended_;
  std::set<std::string> turns_ GUARDED_BY(mutex_);
  std::map<std::string, std::weak_ptr<Layer>> open_ GUARDED_BY(mutex_);
};

}  // namespace pagein::store
