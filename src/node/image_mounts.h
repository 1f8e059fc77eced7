// The mounts of merged images: made once for each chain of layers, shared by
// everybody who needs that chain, kept across restarts of the daemon.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "fetch/context.h"
#include "mount/engine.h"
#include "mount/fd_store.h"
#include "node/layers.h"
#include "node/mount_record.h"
#include "node/read_recorder.h"

namespace pagein::node {

struct ImageMountsOptions {
  std::filesystem::path root;  // ROOT/images is ours; on a local disk
  mount::DeviceCaching caching = mount::DeviceCaching::direct;
  // A chain is mounted with layers that are not complete: load them.
  std::function<void(const std::shared_ptr<fetch::LayerPager>&)> load_rest;
};

struct PinRequest {
  std::vector<std::string> layers;  // names in the store, lowest first
  std::vector<std::string> below;   // folders of ordinary layers below the run
  bool remote_below = false;        // another run of ours lies below too
  std::string holder;
  std::string name;  // the image, for messages
  // A mount of the holder's own that tells it of each read, until a restart.
  std::shared_ptr<ReadRecorder> recorder = {};
};

// Invariants:
//  M1 A holder that asks again for the same chain gets the same folder, also
//     after a restart, until it releases it.
//  M2 A mount goes from its folder with its last holder, never before. Whoever has
//     files of it open is served to the end, also by the next daemon: its record
//     and descriptor stay until the kernel has let go of it.
//  M3 New holders get the newest mount; a new one is made once every layer is
//     local (graduation), so that they need no daemon to read.
// Thread-safe. Blocks on disk, and makes callers for one chain wait for each
// other; different chains do not wait. Not for serving threads.
class ImageMounts {
 public:
  ImageMounts(fetch::Context& context, Layers& layers, mount::Engine& engine,
              mount::FdStore& fd_store, ImageMountsOptions options);
  ~ImageMounts();

  // After a start: continues what a predecessor mounted, with the descriptors
  // that the service manager kept, and mounts again what a reboot took away.
  Status restore(std::vector<mount::StoredFd> fds);

  // The folder with the merged tree, read-only.
  Result<std::filesystem::path> pin(const PinRequest& request);
  void release(const std::string& holder);
  // Forgets mounts that nobody holds and whose last reader has gone, and gives
  // their descriptors back. For a timer: the kernel tells on a serving thread.
  void drop_ended();
  // Lets go of holders that are not among `live` and start with `prefix`.
  void release_others(const std::string& prefix, const std::set<std::string>& live);
  // The chains that have this layer and no mount are forgotten.
  void forget_layer(const std::string& id);

  struct ChainStatus {
    std::string key;
    ImageRecord record;
    std::vector<std::shared_ptr<fetch::LayerPager>> layers;  // of the newest mount
    uint64_t reads = 0;
    bool dead = false;  // its server died and could not be continued
  };
  std::vector<ChainStatus> list() const;

 private:
  using Pagers = std::vector<std::shared_ptr<fetch::LayerPager>>;
  struct Mounted {
    MountRecord record;
    std::unique_ptr<mount::ImageMount> mount;  // null: dead, or not there
    Pagers pagers;                             // not once unmounted: its devices have them
    // Nobody holds it; for who still has files of it open.
    bool unmounted = false;
  };
  // Connections that the kernel has ended. Outlives us: the serving threads do.
  struct Ended {
    Mutex mutex;
    std::vector<std::pair<std::string, uint64_t>> mounts GUARDED_BY(mutex);  // key, generation
  };
  struct Chain {
    std::string key;
    std::filesystem::path dir;
    std::shared_ptr<ReadRecorder> recorder;  // set once, before others see it
    Mutex mutex;                             // held while the chain is merged or mounted
    ImageRecord record GUARDED_BY(mutex);    // but for `mounts`, which are below
    std::vector<Mounted> mounts GUARDED_BY(mutex);
    bool merged GUARDED_BY(mutex) = false;     // meta.erofs is there and current
    bool forgotten GUARDED_BY(mutex) = false;  // not in chains_ any more: look it up anew
  };

  std::shared_ptr<Chain> chain_of(const PinRequest& request);
  Result<std::filesystem::path> pin_chain(Chain& chain, const PinRequest& request)
      REQUIRES(chain.mutex);
  Status merge(Chain& chain, const Pagers& pagers, bool remote_below) REQUIRES(chain.mutex);
  Result<Mounted> make_mount(Chain& chain, MountRecord record, Pagers pagers) REQUIRES(chain.mutex);
  mount::ImageSpec spec_of(const Chain& chain, const MountRecord& record,
                           const Pagers& pagers) const REQUIRES(chain.mutex);
  using Fds = std::map<std::string, UniqueFd>;
  Status restore_chain(Chain& chain, Fds& fds);
  Status adopt(Chain& chain, MountRecord record, const Pagers& pagers, UniqueFd fd)
      REQUIRES(chain.mutex);
  void mount_again(Chain& chain, std::vector<MountRecord> records, const Pagers& pagers)
      REQUIRES(chain.mutex);
  void load_rest(const Mounted& mounted) const;
  void unmount(Chain& chain, Mounted& mounted) REQUIRES(chain.mutex);
  void drop(Chain& chain, uint64_t generation) REQUIRES(chain.mutex);
  void drop_ended(Chain& chain, uint64_t generation);
  bool release_from(Chain& chain, const std::string& holder);
  void forget(const std::shared_ptr<Chain>& chain);
  Status save(const Chain& chain, const std::vector<MountRecord>& planned = {}) const
      REQUIRES(chain.mutex);
  Result<Pagers> pagers_of(const ImageRecord& record);
  std::vector<std::shared_ptr<Chain>> chains() const;
  static std::filesystem::path target_of(const Chain& chain, uint64_t generation);
  static std::string fd_name(const Chain& chain, uint64_t generation);

  fetch::Context& context_;
  Layers& layers_;
  mount::Engine& engine_;
  mount::FdStore& fd_store_;
  const ImageMountsOptions options_;
  const std::shared_ptr<Ended> ended_ = std::make_shared<Ended>();
  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<Chain>> chains_ GUARDED_BY(mutex_);
};

}  // namespace pagein::node
