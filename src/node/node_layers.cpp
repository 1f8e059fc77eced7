// Node as the snapshotter's backend: which layers are served lazily, and why
// not the others.
#include <algorithm>
#include <set>

#include "base/log.h"
#include "node/node.h"
#include "oci/annotations.h"

namespace pagein::node {
namespace {

// Set by CRI and Docker (containerd pkg/snapshotters), and by `pagein pull`.
constexpr char kImageRef[] = "containerd.io/snapshot/cri.image-ref";
constexpr char kManifestDigest[] = "containerd.io/snapshot/cri.manifest-digest";
constexpr char kLayerDigest[] = "containerd.io/snapshot/cri.layer-digest";

constexpr std::chrono::minutes kKeepServed{10};
// After trouble with a registry the next pull tries again.
constexpr std::chrono::seconds kKeepError{5};
constexpr size_t kMaxServed = 256;
constexpr size_t kMaxDeclines = 1000;

std::string label(const snapshotter::Labels& labels, std::string_view key) {
  const auto it = labels.find(std::string(key));
  return it != labels.end() ? it->second : std::string();
}

}  // namespace

std::shared_ptr<Node::Served> Node::served(const std::string& key) {
  MutexLock lock(mutex_);
  if (served_.size() >= kMaxServed && !served_.contains(key)) served_.clear();
  std::shared_ptr<Served>& entry = served_[key];
  if (entry == nullptr) entry = std::make_shared<Served>();
  return entry;
}

Status Node::load_served(Served& served, registry::ImageSource& source,
                         const std::string& reference, const std::string& location,
                         const oci::Digest& manifest) {
  ASSIGN_OR_RETURN(served.image, load_image(source, reference, manifest));
  const auto& layers = served.image->layers;
  served.ids.assign(layers.size(), "");
  served.reasons.assign(layers.size(), "");
  // Held until they are found again: they know what is on its way.
  const auto before = std::exchange(served.pagers, {});

  // Heads that the store has need no fetching.
  std::vector<size_t> missing;
  std::vector<index::IndexLocation> wanted;
  std::vector<Result<std::shared_ptr<fetch::LayerPager>>> found;
  for (size_t i = 0; i < layers.size(); ++i) {
    found.push_back(Error(Code::not_found, "the image's manifest names no index for this layer"));
    if (!layers[i].index) continue;
    const OriginRecord origin{location, layers[i].index->digest, layers[i].index->size};
    found[i] = layers_->add_origin(layers[i].index->head_digest.hex(), origin);
    if (found[i].ok()) continue;
    missing.push_back(i);
    wanted.push_back(*layers[i].index);
  }
  auto heads =
      load_index_heads(*source.blobs(), wanted, net::Clock::now() + config_.fetch.deadline);
  for (size_t m = 0; m < missing.size(); ++m) {
    const size_t i = missing[m];
    const OriginRecord origin{location, layers[i].index->digest, layers[i].index->size};
    found[i] = heads[m].ok() ? layers_->add(*heads[m], origin) : heads[m].error();
  }

  for (size_t i = 0; i < layers.size(); ++i) {
    if (!found[i].ok()) {
      served.reasons[i] = found[i].error().message;
      continue;
    }
    const store::Layer& layer = (*found[i])->layer();
    const index::LayerIndex& index = *layer.index();
    if (index.layer_digest != layers[i].descriptor.digest ||
        index.layer_size != layers[i].descriptor.size || index.diff_id != layers[i].diff_id) {
      served.reasons[i] = "its index is one of another layer";
    } else if (layer.quarantined()) {
      served.reasons[i] = "quarantined: " + layer.quarantine_reason();
    } else {
      served.ids[i] = layer.id();
      served.pagers.push_back(*found[i]);
    }
  }
  // At once: it has as long to load as the client takes to finish its pull.
  if (config_.fetch.startup_pack)
    startup_packs_->begin(*served.image, source.blobs(), served.pagers);
  return {};
}

// The reason why the layer of this Prepare is not served; "" with *id set
// where it is.
std::string Node::why_not(const snapshotter::LayerRequest& request, std::string* id) {
  if (!probe_.usable)
    return "the mount engine '" + probe_.engine + "' does not work here (see pagein doctor)";
  const std::string image_ref = label(request.labels, kImageRef);
  const auto manifest = oci::Digest::parse(label(request.labels, kManifestDigest));
  const auto layer_digest = oci::Digest::parse(label(request.labels, kLayerDigest));
  if (image_ref.empty() || !manifest.ok() || !layer_digest.ok()) {
    return "the pull does not say which image this is (use `pagein pull`, or a client that sets "
           "cri.* labels)";
  }
  // Only a hint, anybody can write it; but without it there is nothing to gain.
  if (label(request.labels, oci::annotation::kIndexHeadDigest).empty()) {
    return "the layer has no index (see `pagein convert`)";
  }
  const auto reference = oci::Reference::parse(image_ref);
  if (!reference.ok()) return reference.error().message;
  if (!trust_.trusts(*reference)) {
    return "indexes from " + reference->name() +
           " are not trusted: add it to trust.repositories in pageind.toml";
  }
  registry::Location location;
  location.reference = reference->with_default_tag();
  const std::shared_ptr<Served> entry = served(image_ref + " " + manifest->str());
  MutexLock lock(entry->mutex);
  if (!entry->loaded || parts_.now() >= entry->expires) {
    const auto source = parts_.open_source(location, session_);
    const Status status =
        source.ok() ? load_served(*entry, **source, image_ref, reference->name(), *manifest)
                    : Status(source.error());
    entry->loaded = true;
    entry->error = status.ok() ? "" : status.error().message;
    entry->expires = parts_.now();
    if (status.ok()) entry->expires += kKeepServed;
    else entry->expires += kKeepError;
  }
  if (!entry->error.empty()) return entry->error;
  const auto& layers = entry->image->layers;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].chain_id.str() != request.snapshot_ref) continue;
    if (layers[i].descriptor.digest != *layer_digest) break;
    if (entry->ids[i].empty()) return entry->reasons[i];
    *id = entry->ids[i];
    return "";
  }
  return "manifest " + manifest->str() + " of " + image_ref + " does not hold this layer";
}

Result<std::optional<std::string>> Node::prepare_layer(const snapshotter::LayerRequest& request) {
  std::string id;
  const std::string reason = why_not(request, &id);
  if (reason.empty()) {
    // Its pager is held: no removal that is under way takes it.
    MutexLock lock(mutex_);
    put_off_.erase(id);
    return std::optional<std::string>(std::move(id));
  }
  note_decline(request, reason);
  return std::optional<std::string>();
}

void Node::note_decline(const snapshotter::LayerRequest& request, const std::string& reason) {
  Decline decline;
  decline.image = label(request.labels, kImageRef);
  decline.layer = label(request.labels, kLayerDigest);
  if (decline.layer.empty()) decline.layer = request.snapshot_ref;
  decline.reason = reason;
  log::info("a layer is loaded the ordinary way",
            {{"image", decline.image}, {"layer", decline.layer}, {"why", reason}});
  MutexLock lock(mutex_);
  std::erase_if(declines_, [&](const Decline& d) {
    return d.image == decline.image && d.layer == decline.layer;
  });
  declines_.push_back(std::move(decline));
  if (declines_.size() > kMaxDeclines) declines_.pop_front();
}

std::vector<Node::Decline> Node::declines() const {
  MutexLock lock(mutex_);
  return {declines_.begin(), declines_.end()};
}

Result<std::vector<std::string>> Node::mount_run(const snapshotter::RunRequest& request) {
  PinRequest pin;
  pin.layers = request.layers;
  pin.below = request.ordinary_below;
  pin.remote_below = request.remote_below;
  pin.holder = kSnapshotHolder + request.holder;
  {
    MutexLock lock(mutex_);
    unclaimed_.erase(pin.holder);
  }
  if (const auto top = layers_->find(request.layers.back()); top.ok()) {
    pin.name = (*top)->origin_name();
  }
  ASSIGN_OR_RETURN(const std::filesystem::path folder, mounts_->pin(pin));
  return std::vector<std::string>{folder.native()};
}

void Node::release(const std::string& holder) { mounts_->release(kSnapshotHolder + holder); }

Result<snapshotter::Usage> Node::usage(const std::string& layer) {
  ASSIGN_OR_RETURN(const auto pager, layers_->find(layer));
  return snapshotter::Usage{pager->layer().disk_usage(), pager->layer().index()->files.size()};
}

// Nobody shall hold a layer only because it was pulled lately.
void Node::forget_served() {
  std::map<std::string, std::shared_ptr<Served>> ended;  // its last holder takes locks
  MutexLock lock(mutex_);
  ended.swap(served_);
}

void Node::remove_layer(const std::string& layer, const std::string& name) {
  forget_served();
  Status status = remove_unused(layer);
  if (status.ok()) return;
  log::debug("a layer stays in the store for now",
             {{"layer", layer}, {"snapshot", name}, {"why", status.error().message}});
  MutexLock lock(mutex_);
  put_off_.insert(layer);
}

// failed_precondition while somebody reads it: an image that was mounted by
// hand, or a container's last files.
Status Node::remove_unused(const std::string& layer) {
  const auto in_use = Error(Code::failed_precondition, "an image with it is mounted");
  mounts_->forget_layer(layer);
  for (const auto& chain : mounts_->list()) {
    const auto& ids = chain.record.layers;
    if (chain.record.mounts.empty()) continue;
    if (std::find(ids.begin(), ids.end(), layer) != ids.end()) return in_use;
  }
  for (const auto& [dir, record] : absent()) {
    if (std::find(record.layers.begin(), record.layers.end(), layer) != record.layers.end()) {
      return Error(Code::failed_precondition, "the image for " + dir + " needs it");
    }
  }
  for (const auto& pager : layers_->active()) {
    if (pager->layer().id() != layer) continue;
    background_->remove(pager);
    startup_packs_->cancel_layer(layer);
    pager->cancel_unwanted();
  }
  Status status = layers_->remove(layer);
  return !status.ok() && status.error().code == Code::not_found ? Status() : status;
}

size_t Node::retry_removals() {
  size_t removed = 0;
  std::set<std::string> layers;
  {
    MutexLock lock(mutex_);
    layers = put_off_;
  }
  for (const std::string& layer : layers) {
    if (!remove_unused(layer).ok()) continue;
    ++removed;
    MutexLock lock(mutex_);
    put_off_.erase(layer);
  }
  return removed;
}

Node::Collected Node::collect_garbage(std::optional<uint64_t> max_bytes) {
  mounts_->drop_ended();
  const size_t removed = retry_removals();
  return {removed, evictor_->make_room(max_bytes)};
}

void Node::finish_reattach(const std::vector<std::string>& live_layers) {
  std::set<std::string> unclaimed;
  {
    MutexLock lock(mutex_);
    unclaimed.swap(unclaimed_);
  }
  // Their snapshots are gone: a crash came before the release.
  for (const std::string& holder : unclaimed) mounts_->release(holder);
  collect_layers({live_layers.begin(), live_layers.end()});
}

void Node::collect_layers(const std::set<std::string>& keep) {
  std::set<std::string> wanted = keep;
  for (const auto& [dir, record] : absent()) {
    wanted.insert(record.layers.begin(), record.layers.end());
  }
  for (const auto& chain : mounts_->list()) {
    if (chain.record.mounts.empty()) continue;
    wanted.insert(chain.record.layers.begin(), chain.record.layers.end());
  }
  for (const std::string& id : store_->list()) {
    if (wanted.contains(id)) continue;
    mounts_->forget_layer(id);
    if (Status status = layers_->remove(id); status.ok()) {
      log::info("a layer that nothing refers to is removed", {{"layer", id}});
    }
  }
}

}  // namespace pagein::node
