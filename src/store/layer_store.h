// The folder of layers (docs/formats/store.md).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/mutex.h"
#include "base/result.h"
#include "store/layer.h"

namespace pagein::store {

// Owns ROOT/layers. Layers are shared: a layer stays open while anybody holds
// it. Thread-safe; blocks on disk I/O. One process at a time (lock file).
class LayerStore {
 public:
  // Makes the folder where needed, takes its lock, removes half-made layers.
  // failed_precondition: another process has it.
  static Result<std::unique_ptr<LayerStore>> open(const std::filesystem::path& root);
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

  // Syncs every open layer and marks it clean. For an orderly stop.
  Status close_cleanly();
  // Syncs open layers that have unsynced bytes. Called by a timer.
  Status sync_all();

 private:
  LayerStore(std::filesystem::path root, UniqueFd lock);
  Result<std::shared_ptr<Layer>> load(const std::string& id) REQUIRES(mutex_);
  Result<std::shared_ptr<Layer>> make(const std::string& id, ByteView head) REQUIRES(mutex_);
  std::vector<std::shared_ptr<Layer>> open_layers() const;

  const std::filesystem::path root_;  // ROOT/layers
  UniqueFd lock_;
  mutable Mutex mutex_;
  std::map<std::string, std::weak_ptr<Layer>> open_ GUARDED_BY(mutex_);
};

}  // namespace pagein::store
