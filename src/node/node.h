// The node daemon's core: images that this node serves lazily.
#pragma once

#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "fetch/background.h"
#include "mount/engine.h"
#include "mount/fd_store.h"
#include "node/config.h"
#include "node/evictor.h"
#include "node/image.h"
#include "node/image_mounts.h"
#include "node/layers.h"
#include "node/manual_record.h"
#include "node/read_recorder.h"
#include "node/startup_packs.h"
#include "node/trust.h"
#include "registry/image_store.h"
#include "registry/memory_credentials.h"
#include "registry/session.h"
#include "snapshotter/remote_backend.h"
#include "store/layer_store.h"

namespace pagein::node {

// Of the snapshotter's snapshots, as holders of mounts.
inline constexpr const char* kSnapshotHolder = "snapshot-";

// What tests replace.
struct NodeParts {
  std::function<std::unique_ptr<mount::Engine>(mount::FuseServer&)> make_engine;  // else by config
  std::function<Result<std::shared_ptr<registry::ImageSource>>(
      const registry::Location&, const std::shared_ptr<registry::Session>&)>
      open_source = registry::open_source;
  std::function<net::Clock::time_point()> now = net::Clock::now;
  // Between syncs of the store (sooner where much was written): what a crash may
  // cost in fetching again. And between clean-ups.
  std::chrono::milliseconds interval{5000};
};

// Implements what the snapshotter asks for, and images mounted by hand.
// Thread-safe; calls may block on network and disk.
class Node : public snapshotter::RemoteBackend {
 public:
  // Opens the store, probes the engine, continues the mounts of a predecessor.
  // failed_precondition: another daemon uses the root; unsupported: this
  // kernel has no mount engine that works.
  static Result<std::unique_ptr<Node>> start(const Config& config, std::vector<mount::StoredFd> fds,
                                             NodeParts parts = {});
  ~Node() override;

  // RemoteBackend
  Result<std::optional<std::string>> prepare_layer(
      const snapshotter::LayerRequest& request) override;
  Result<std::vector<std::string>> mount_run(const snapshotter::RunRequest& request) override;
  void release(const std::string& holder) override;
  Result<snapshotter::Usage> usage(const std::string& layer) override;
  void remove_layer(const std::string& layer, const std::string& name) override;
  void finish_reattach(const std::vector<std::string>& live_layers) override;

  // An image mounted by hand (`pagein mount`), read-only at `dir`. `location`
  // as registry::parse_location takes it: whoever names it as root trusts it.
  Status mount_image(const std::string& location, const std::filesystem::path& dir);
  // not_found: nothing was mounted there by mount_image.
  // Also of one that could not be mounted again after a start.
  Status unmount_image(const std::filesystem::path& dir);

  // An image mounted for `pagein record` (node_record.cpp): on its own, every layer
  // served by this daemon even if it is complete, so that each first read is
  // seen; nothing of it is loaded in the background. Ends with end_recording(), a
  // restart, or when recording() was not asked for a minute.
  struct RecordingStart {
    std::string id;
    std::filesystem::path tree;  // the merged image, read-only
    std::shared_ptr<const Image> image;
  };
  Result<RecordingStart> start_recording(const std::string& location);
  Result<std::shared_ptr<const ReadRecorder>> recording(const std::string& id);  // not_found
  Status end_recording(const std::string& id);                                   // not_found

  // Why layers were not served lazily, newest last; for `pagein why`.
  struct Decline {
    std::string image;
    std::string layer;  // digest, or chain ID where that is not known
    std::string reason;
  };
  std::vector<Decline> declines() const;

  struct Manual {
    std::filesystem::path dir;
    std::string location;
  };
  std::vector<Manual> manual_mounts() const;
  std::vector<ImageMounts::ChainStatus> images() const { return mounts_->list(); }
  const Config& config() const { return config_; }
  fetch::Context& fetch_context() { return *context_; }
  fetch::Background& background() { return *background_; }
  std::vector<StartupPacks::Report> startup_packs() const { return startup_packs_->list(); }
  Layers& layers() { return *layers_; }
  Evictor& evictor() { return *evictor_; }
  net::Client& client() { return session_->client(); }
  // Credentials that were handed over; in memory until the daemon ends.
  registry::MemoryCredentials& credentials() { return *handed_over_; }
  const mount::EngineProbe& probe() const { return probe_; }  // of the engine chosen
  std::vector<mount::EngineProbe> engine_reports() const { return engine_->reports(); }
  bool keeps_descriptors() const { return fd_store_.available(); }

  // Removes layers whose images are gone, and evicts what no mount needs until
  // layers take at most `max_bytes` (default: the configured limit).
  struct Collected {
    size_t removed = 0;
    store::LayerStore::Evicted evicted;
  };
  Collected collect_garbage(std::optional<uint64_t> max_bytes);

  // For an orderly stop: no more background work, everything durable. Mounts
  // stay.
  void stop();

 private:
  // What is known of an image after its first Prepare.
  struct Served {
    Mutex mutex;  // held while the image is being loaded: others wait
    bool loaded GUARDED_BY(mutex) = false;
    net::Clock::time_point expires GUARDED_BY(mutex){};
    std::string error GUARDED_BY(mutex);  // not empty: nothing of it is served
    std::shared_ptr<const Image> image GUARDED_BY(mutex);
    std::vector<std::string> ids GUARDED_BY(mutex);      // by layer; empty: not served
    std::vector<std::string> reasons GUARDED_BY(mutex);  // by layer, where not served
    // The layers are held until their snapshots exist and are mounted.
    std::vector<std::shared_ptr<fetch::LayerPager>> pagers GUARDED_BY(mutex);
  };

  Node(const Config& config, NodeParts parts)
      : config_(config), parts_(std::move(parts)), trust_(config.trust.repositories) {}
  Status open(std::vector<mount::StoredFd> fds);
  Status open_registry();
  Status open_mounts(std::vector<mount::StoredFd> fds);
  std::shared_ptr<Served> served(const std::string& key);
  Status load_served(Served& served, registry::ImageSource& source, const std::string& reference,
                     const std::string& location, const oci::Digest& manifest)
      REQUIRES(served.mutex);
  std::string why_not(const snapshotter::LayerRequest& request, std::string* id);
  void note_decline(const snapshotter::LayerRequest& request, const std::string& reason);
  void load_rest(const std::shared_ptr<fetch::LayerPager>& pager);
  void on_settled(const std::shared_ptr<fetch::LayerPager>& pager);
  void sync_loop();
  bool wait_for_stop(std::chrono::milliseconds timeout);
  void clean_up_loop();
  Status remove_unused(const std::string& layer);
  size_t retry_removals();
  void collect_layers(const std::set<std::string>& keep);
  void forget_served();

  void end_old_recordings();

  // Images mounted by hand (node_manual.cpp).
  std::filesystem::path manual_file(const std::filesystem::path& dir) const;
  std::vector<std::pair<std::filesystem::path, Result<ManualRecord>>> load_manual_records() const;
  Result<std::shared_ptr<Served>> load_manual(const std::string& location);
  void release_manual(const ManualRecord& record) REQUIRES(manual_mutex_);
  void restore_manual();
  Status show_again(const ManualRecord& record) REQUIRES(manual_mutex_);
  void note_absent(const ManualRecord& record, const Error& why) REQUIRES(manual_mutex_);
  void forget_manual(const ManualRecord& record, const std::string& why) REQUIRES(manual_mutex_);
  void restore_loop();
  bool retry_absent();
  bool is_absent(const std::filesystem::path& dir) const;
  std::map<std::string, ManualRecord> absent() const;
  Result<std::shared_ptr<Served>> find_lost_layers(const ManualRecord& record);

  const Config config_;
  const NodeParts parts_;
  const TrustPolicy trust_;
  mount::FdStore fd_store_;
  mount::EngineProbe probe_;
  std::unique_ptr<store::LayerStore> store_;
  const std::shared_ptr<registry::MemoryCredentials> handed_over_ =
      std::make_shared<registry::MemoryCredentials>();
  std::shared_ptr<registry::Session> session_;
  std::unique_ptr<fetch::Context> context_;
  std::unique_ptr<Layers> layers_;
  std::unique_ptr<fetch::Background> background_;
  std::unique_ptr<StartupPacks> startup_packs_;
  std::unique_ptr<mount::FuseServer> fuse_server_;
  std::unique_ptr<mount::Engine> engine_;
  std::unique_ptr<ImageMounts> mounts_;
  std::unique_ptr<Evictor> evictor_;

  // Held while one is mounted or unmounted: they are done one after the other.
  Mutex manual_mutex_;
  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<Served>> served_ GUARDED_BY(mutex_);
  std::deque<Decline> declines_ GUARDED_BY(mutex_);
  // Snapshots that held mounts when the last run ended and have not asked yet.
  std::set<std::string> unclaimed_ GUARDED_BY(mutex_);
  // Images mounted by hand that could not be mounted again yet, by folder.
  std::map<std::string, ManualRecord> absent_ GUARDED_BY(mutex_);
  struct Recording {
    std::shared_ptr<ReadRecorder> recorder;
    net::Clock::time_point expires{};
  };
  std::map<std::string, Recording> recordings_ GUARDED_BY(mutex_);
  // Layers that nothing refers to any more, but that were still read.
  std::set<std::string> put_off_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  CondVar stop_wake_;
  std::thread syncer_;
  std::thread cleaner_;
  std::thread restorer_;
};

}  // namespace pagein::node
