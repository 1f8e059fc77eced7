#include "containerd/pull.h"

#include <optional>
#include <random>
#include <string>

#include "base/mutex.h"
#include "containerd/blob_upload.h"
#include "containerd/labels.h"
#include "containerd/layer_fetcher.h"
#include "oci/annotations.h"

namespace pagein::containerd {

namespace {

constexpr int kPrepareTries = 3;  // as containerd's unpacker

std::string unique_part() {
  std::random_device random;
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  return std::to_string(now % 1'000'000'000) + "-" + std::to_string(random());
}

// The content of a document, from memory.
class TextStream final : public ByteStream {
 public:
  TextStream(const std::string& text, uint64_t offset)
      : left_(as_bytes(std::string_view(text).substr(std::min<uint64_t>(offset, text.size())))) {}
  Result<size_t> read(std::span<uint8_t> out) override {
    const size_t count = std::min(out.size(), left_.size());
    std::copy_n(left_.begin(), count, out.begin());
    left_ = left_.subspan(count);
    return count;
  }

 private:
  ByteView left_;
};

// A snapshotter that knows the annotations is likely to serve the layer.
bool likely_lazy(const oci::Descriptor& layer) {
  for (const auto& [key, value] : layer.annotations) {
    if (key.starts_with(oci::annotation::kSnapshotPrefix)) return true;
  }
  return false;
}

// Deleted in the destructor, whatever the stop says; else it expires.
class Lease {
 public:
  static Result<std::unique_ptr<Lease>> make(Client& client, std::chrono::seconds lifetime) {
    ASSIGN_OR_RETURN(std::string id, client.create_lease(lifetime));
    return std::unique_ptr<Lease>(new Lease(client, std::move(id)));
  }
  ~Lease() { (void)client_.with_stop({})->delete_lease(id_); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  const std::string& id() const { return id_; }

 private:
  Lease(Client& client, std::string id) : client_(client), id_(std::move(id)) {}
  Client& client_;
  const std::string id_;
};

// What a pull knows about its layers; reports every change.
class Progress {
 public:
  Progress(const PullPlan& plan, const PullOptions& options) : options_(options) {
    for (size_t i = 0; i < plan.layers.size(); ++i) {
      layers_.push_back({plan.layers[i].digest, plan.chain_ids[i], LayerState::waiting, 0});
    }
  }
  void set(size_t layer, LayerState state) {
    MutexLock lock(mutex_);
    layers_[layer].state = state;
    report(layer);
  }
  void add_bytes(size_t layer, uint64_t bytes) {
    MutexLock lock(mutex_);
    if (layers_[layer].state == LayerState::waiting) layers_[layer].state = LayerState::fetching;
    layers_[layer].fetched += bytes;
    report(layer);
  }
  std::vector<LayerSummary> layers() {
    MutexLock lock(mutex_);
    return layers_;
  }

 private:
  void report(size_t layer) REQUIRES(mutex_) {
    if (!options_.on_progress) return;
    options_.on_progress({layer, layers_[layer].state, layers_[layer].fetched});
  }
  const PullOptions& options_;
  Mutex mutex_;
  std::vector<LayerSummary> layers_ GUARDED_BY(mutex_);
};

class Puller {
 public:
  Puller(Client& client, const PullPlan& plan, registry::ImageSource& source,
         const PullOptions& options, const std::string& lease)
      : client_(client),
        plan_(plan),
        source_(source),
        options_(options),
        lease_(lease),
        progress_(plan, options) {}

  Result<PullSummary> run() {
    for (const Document& document : plan_.documents) RETURN_IF_ERROR(store(document));
    for (size_t i = 0; i < plan_.layers.size(); ++i) {
      auto status = layer(i);
      if (!status.ok()) {
        return status.error().with_context("layer " + std::to_string(i + 1) + " of " +
                                           std::to_string(plan_.layers.size()));
      }
    }
    PullSummary summary;
    if (!plan_.chain_ids.empty()) {
      summary.chain_id = plan_.chain_ids.back();
      RETURN_IF_ERROR(client_.label_content(
          plan_.config_digest, {{gc_snapshot_key(options_.snapshotter), summary.chain_id.str()}}));
    }
    RETURN_IF_ERROR(client_.put_image({plan_.name, options_.image_labels, plan_.target}));
    summary.layers = progress_.layers();
    return summary;
  }

 private:
  Status store(const Document& document) {
    BlobUpload upload;
    upload.blob = document.descriptor;
    upload.labels = gc_labels(document.children);
    upload.open = [&](uint64_t offset) -> Result<std::unique_ptr<ByteStream>> {
      return std::make_unique<TextStream>(document.bytes, offset);
    };
    return upload_blob(client_, plan_, upload);
  }

  std::string chain(size_t layer) const { return plan_.chain_ids[layer].str(); }
  SnapshotRequest request(size_t layer, std::string key) const {
    return {options_.snapshotter, std::move(key), layer == 0 ? "" : chain(layer - 1),
            layer_labels(
                {plan_.name, plan_.manifest_digest, plan_.layers, layer, plan_.chain_ids[layer]})};
  }
  Result<bool> there(size_t layer) {
    const auto info = client_.stat_snapshot(options_.snapshotter, chain(layer));
    if (info.ok()) return true;
    if (info.error().code == Code::not_found) return false;
    return info.error();
  }

  Status layer(size_t i) {
    // First: once it is in the lease, a snapshot that is found there stays.
    RETURN_IF_ERROR(client_.lease_snapshot(lease_, options_.snapshotter, chain(i)));
    ASSIGN_OR_RETURN(const bool present, there(i));
    if (present) {
      progress_.set(i, LayerState::present);
      return {};
    }
    for (int attempt = 0; attempt < kPrepareTries; ++attempt) {
      SnapshotRequest wanted = request(i, extract_key(unique_part(), plan_.chain_ids[i]));
      const auto mounts = client_.prepare_snapshot(wanted);
      if (mounts.ok()) return unpack(i, std::move(wanted), *mounts);
      if (mounts.error().code != Code::already_exists) return mounts.error();
      ASSIGN_OR_RETURN(const bool lazy, there(i));
      if (lazy) {
        any_lazy_ = true;
        progress_.set(i, LayerState::lazy);
        return {};
      }
    }
    return Error(Code::unavailable, "snapshotter " + options_.snapshotter + " says that snapshot " +
                                        chain(i) + " exists, but it cannot be found");
  }

  // An active snapshot that is removed unless it was committed.
  class Active {
   public:
    Active(Client& client, const std::string& snapshotter, const std::string& key)
        : client_(client), snapshotter_(snapshotter), key_(key) {}
    ~Active() {
      if (!committed_) (void)client_.with_stop({})->remove_snapshot(snapshotter_, key_);
    }
    Active(const Active&) = delete;
    Active& operator=(const Active&) = delete;
    void committed() { committed_ = true; }

   private:
    Client& client_;
    const std::string snapshotter_;
    const std::string key_;
    bool committed_ = false;
  };

  Status unpack(size_t i, SnapshotRequest wanted, const std::vector<Mount>& mounts) {
    const std::string key = wanted.key;
    Active active(client_, options_.snapshotter, key);
    RETURN_IF_ERROR(fetch(i));
    progress_.set(i, LayerState::unpacking);
    ASSIGN_OR_RETURN(const oci::Digest diff_id, client_.apply(plan_.layers[i], mounts));
    if (diff_id != plan_.diff_ids[i]) {
      return Error(Code::corrupt_input, "layer " + plan_.layers[i].digest.str() + " unpacks to " +
                                            diff_id.str() + ", but the image's config says " +
                                            plan_.diff_ids[i].str());
    }
    wanted.key = chain(i);
    const Status committed = client_.commit_snapshot(wanted, key);
    if (committed.ok()) {
      active.committed();
    } else if (committed.error().code != Code::already_exists) {
      return committed;  // exists: another client was faster with the same
    }
    RETURN_IF_ERROR(
        client_.label_content(plan_.layers[i].digest, {{kUncompressed, diff_id.str()}}));
    progress_.set(i, LayerState::unpacked);
    return {};
  }

  // This layer, and ahead those above that are likely to be needed as well:
  // none where the snapshotter serves others of this image.
  Status fetch(size_t i) {
    if (!fetcher_) {
      fetcher_.emplace(
          client_, plan_, source_,
          FetcherOptions{options_.parallel_downloads, [this](size_t layer, uint64_t bytes) {
                           progress_.add_bytes(layer, bytes);
                         }});
    }
    progress_.set(i, LayerState::fetching);
    fetcher_->start(i);
    for (size_t above = i + 1; !any_lazy_ && above < plan_.layers.size(); ++above) {
      if (!likely_lazy(plan_.layers[above])) fetcher_->start(above);
    }
    return fetcher_->wait(i);
  }

  Client& client_;
  const PullPlan& plan_;
  registry::ImageSource& source_;
  const PullOptions& options_;
  const std::string lease_;
  Progress progress_;
  bool any_lazy_ = false;
  std::optional<LayerFetcher> fetcher_;
};

}  // namespace

std::string_view to_string(LayerState state) {
  switch (state) {
    case LayerState::waiting: return "waiting";
    case LayerState::present: return "present";
    case LayerState::lazy: return "lazy";
    case LayerState::fetching: return "fetching";
    case LayerState::unpacking: return "unpacking";
    case LayerState::unpacked: return "unpacked";
  }
  return "unknown";
}

Result<PullSummary> pull_image(Client& client, const PullPlan& plan, registry::ImageSource& source,
                               const PullOptions& options) {
  RETURN_IF_ERROR(client.ensure_namespace());
  ASSIGN_OR_RETURN(const auto lease, Lease::make(client, options.lease_lifetime));
  const std::unique_ptr<Client> leased = client.with_lease(lease->id());
  auto summary = Puller(*leased, plan, source, options, lease->id()).run();
  if (!summary.ok()) return summary.error().with_context("pulling " + plan.name);
  return summary;
}

}  // namespace pagein::containerd
