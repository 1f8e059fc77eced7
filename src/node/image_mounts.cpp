#include "node/image_mounts.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include "base/log.h"
#include "base/sha256.h"
#include "erofs/writer.h"
#include "node/layer_device.h"
#include "node/lower_directory.h"
#include "tree/merge.h"

namespace pagein::node {
namespace {

constexpr const char* kRecordFile = "image.json";
constexpr const char* kMetadataFile = "meta.erofs";
constexpr uint64_t kMaxRecordFile = 64 << 20;
// Of the key of a mount that is recorded, which is of no use after a restart.
constexpr std::string_view kRecordingPrefix = "recording-";

std::string chain_key(const std::vector<std::string>& layers, const std::vector<std::string>& below,
                      bool remote_below) {
  std::string text = remote_below ? "remote-below\n" : "";
  for (const std::string& layer : layers) text += layer + "\n";
  for (const std::string& dir : below) text += "below " + dir + "\n";
  return oci::Digest::of(as_bytes(text)).hex().substr(0, 32);
}

// The generation whose mount point a name in a chain's folder is.
std::optional<uint64_t> parse_generation(const std::string& name) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), value);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return value;
}

// Mount points in the folder that are not among `known`: left by a crash
// before they were recorded, or by a record that is damaged.
void unmount_strays(const std::filesystem::path& dir, const std::set<uint64_t>& known) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(dir, ignored)) {
    const auto generation = parse_generation(entry.path().filename());
    if (!generation || known.contains(*generation)) continue;
    Status status = mount::unmount(entry.path(), mount::UnmountMode::lazy);
    if (!status.ok()) {
      log::warn("cannot unmount what an earlier run left",
                {{"folder", entry.path().native()}, {"why", status.error().message}});
    }
    std::filesystem::remove(entry.path(), ignored);  // only if empty
  }
}

// Whether the daemon reads local devices for such a mount, too. A successor may
// then serve a device from elsewhere than its predecessor did.
bool serves_local_devices(mount::EngineKind kind) {
  return kind == mount::EngineKind::fuse || kind == mount::EngineKind::erofs_flat;
}

}  // namespace

ImageMounts::ImageMounts(fetch::Context& context, Layers& layers, mount::Engine& engine,
                         mount::FdStore& fd_store, ImageMountsOptions options)
    : context_(context),
      layers_(layers),
      engine_(engine),
      fd_store_(fd_store),
      options_(std::move(options)) {}

// Mounts stay: a daemon that stops must not break containers.
ImageMounts::~ImageMounts() = default;

std::filesystem::path ImageMounts::target_of(const Chain& chain, uint64_t generation) {
  return chain.dir / std::to_string(generation);
}

std::string ImageMounts::fd_name(const Chain& chain, uint64_t generation) {
  return "image-" + chain.key + "-" + std::to_string(generation);
}

std::vector<std::shared_ptr<ImageMounts::Chain>> ImageMounts::chains() const {
  std::vector<std::shared_ptr<Chain>> all;
  MutexLock lock(mutex_);
  for (const auto& [key, chain] : chains_) all.push_back(chain);
  return all;
}

std::shared_ptr<ImageMounts::Chain> ImageMounts::chain_of(const PinRequest& request) {
  std::string key = chain_key(request.layers, request.below, request.remote_below);
  if (request.recorder != nullptr) {
    key = std::string(kRecordingPrefix) +
          oci::Digest::of(as_bytes(request.holder)).hex().substr(0, 32);
  }
  MutexLock lock(mutex_);
  std::shared_ptr<Chain>& chain = chains_[key];
  if (chain == nullptr) {
    chain = std::make_shared<Chain>();
    chain->key = key;
    chain->dir = options_.root / "images" / key;
    chain->recorder = request.recorder;
    MutexLock chain_lock(chain->mutex);
    chain->record.layers = request.layers;
    chain->record.below = request.below;
    chain->record.name = request.name;
  }
  return chain;
}

Result<ImageMounts::Pagers> ImageMounts::pagers_of(const ImageRecord& record) {
  Pagers pagers;
  for (const std::string& id : record.layers) {
    ASSIGN_OR_RETURN(auto pager, layers_.find(id));
    if (pager->layer().quarantined()) {
      return Error(Code::corrupt_input,
                   "layer " + pager->layer().index()->layer_digest.str() + " of " + record.name +
                       " is quarantined: " + pager->layer().quarantine_reason());
    }
    pagers.push_back(std::move(pager));
  }
  return pagers;
}

Status ImageMounts::merge(Chain& chain, const Pagers& pagers, bool remote_below) {
  RETURN_IF_ERROR(make_dirs(chain.dir, 0700));
  std::vector<tree::Layer> layers;
  erofs::WriteOptions options;
  for (const auto& pager : pagers) {
    const auto& index = pager->layer().index();
    layers.push_back({{index, &index->files}, {index, &index->layout}});
    options.devices.push_back({pager->layer().id(), index->layout.data_size() / index::kBlockSize});
  }
  tree::MergeOptions merge_options;
  if (!chain.record.below.empty() || remote_below) {
    merge_options.lower_directory = lower_directory_lookup(chain.record.below);
  }
  ASSIGN_OR_RETURN(const tree::Tree tree, tree::merge(std::move(layers), merge_options));
  ASSIGN_OR_RETURN(const Bytes metadata, erofs::write_metadata(tree, options));
  RETURN_IF_ERROR(replace_file(chain.dir / kMetadataFile, metadata, 0600));
  chain.merged = true;
  return {};
}

mount::ImageSpec ImageMounts::spec_of(const Chain& chain, const MountRecord& record,
                                      const Pagers& pagers) const {
  mount::ImageSpec spec;
  spec.id = "pagein-" + chain.key.substr(0, 12);
  spec.metadata = chain.dir / kMetadataFile;
  for (size_t i = 0; i < pagers.size(); ++i) {
    store::Layer& layer = pagers[i]->layer();
    spec.devices.push_back(record.local[i]
                               ? mount::ImageDevice::local(layer.data_path(), layer.data_size())
                               : mount::ImageDevice::virtual_file(make_layer_device(
                                     context_, pagers[i], chain.record.name, chain.recorder)));
  }
  spec.target = target_of(chain, record.generation);
  spec.caching = options_.caching;
  spec.on_end = [ended = ended_, key = chain.key, generation = record.generation] {
    MutexLock lock(ended->mutex);
    ended->mounts.emplace_back(key, generation);
  };
  return spec;
}

Result<ImageMounts::Mounted> ImageMounts::make_mount(Chain& chain, MountRecord record,
                                                     Pagers pagers) {
  const std::filesystem::path target = target_of(chain, record.generation);
  RETURN_IF_ERROR(make_dirs(target, 0755));
  Mounted mounted;
  ASSIGN_OR_RETURN(mounted.mount, engine_.mount(spec_of(chain, record, pagers)));
  record.state = mounted.mount->state();
  mounted.record = std::move(record);
  mounted.pagers = std::move(pagers);
  if (mounted.record.state.needs_daemon && fd_store_.available()) {
    Status stored =
        fd_store_.put(fd_name(chain, mounted.record.generation), mounted.mount->device_fd());
    if (!stored.ok()) {
      log::warn("a mount will not survive a restart of this daemon",
                {{"image", chain.record.name}, {"why", stored.error().message}});
    }
  }
  return mounted;
}

Result<std::filesystem::path> ImageMounts::pin(const PinRequest& request) {
  for (;;) {
    const std::shared_ptr<Chain> chain = chain_of(request);
    MutexLock lock(chain->mutex);
    if (!chain->forgotten) return pin_chain(*chain, request);
  }
}

Result<std::filesystem::path> ImageMounts::pin_chain(Chain& chain, const PinRequest& request) {
  for (Mounted& mounted : chain.mounts) {
    if (mounted.mount != nullptr && mounted.record.holders.contains(request.holder)) {
      return target_of(chain, mounted.record.generation);
    }
  }
  ASSIGN_OR_RETURN(auto pagers, pagers_of(chain.record));
  std::vector<bool> local;
  for (const auto& pager : pagers) {
    local.push_back(chain.recorder == nullptr && pager->layer().complete());
  }
  const bool all_local = std::find(local.begin(), local.end(), false) == local.end();

  Mounted* newest = nullptr;
  uint64_t generation = 1;
  for (Mounted& mounted : chain.mounts) {
    generation = std::max(generation, mounted.record.generation + 1);
    if (mounted.mount != nullptr && !mounted.unmounted) newest = &mounted;
  }
  const auto is_virtual = [](const MountRecord& record) {
    return std::find(record.local.begin(), record.local.end(), false) != record.local.end();
  };
  if (newest == nullptr || (all_local && is_virtual(newest->record))) {
    if (!chain.merged) RETURN_IF_ERROR(merge(chain, pagers, request.remote_below));
    MountRecord record;
    record.generation = generation;
    record.local = std::move(local);
    ASSIGN_OR_RETURN(Mounted mounted, make_mount(chain, std::move(record), std::move(pagers)));
    chain.mounts.push_back(std::move(mounted));
    newest = &chain.mounts.back();
  }
  newest->record.holders.insert(request.holder);
  if (Status saved = save(chain); !saved.ok()) {
    newest->record.holders.erase(request.holder);
    if (newest->record.holders.empty()) unmount(chain, *newest);
    return saved.error();
  }
  if (chain.recorder == nullptr) load_rest(*newest);
  return target_of(chain, newest->record.generation);
}

void ImageMounts::load_rest(const Mounted& mounted) const {
  for (const auto& pager : mounted.pagers) {
    if (!pager->settled() && options_.load_rest) options_.load_rest(pager);
  }
}

void ImageMounts::unmount(Chain& chain, Mounted& mounted) {
  const uint64_t generation = mounted.record.generation;
  const std::filesystem::path target = target_of(chain, generation);
  Status status = mounted.mount != nullptr ? mounted.mount->unmount(mount::UnmountMode::lazy)
                                           : mount::unmount(target, mount::UnmountMode::lazy);
  if (!status.ok()) {
    log::warn("cannot unmount an image",
              {{"image", chain.record.name}, {"why", status.error().message}});
  }
  std::error_code ignored;
  std::filesystem::remove(target, ignored);
  // An overlay, or who has a file open, may still hold the file system: then its
  // connection, and with it the layers, live on until that ends.
  const bool used = mounted.mount != nullptr && mounted.record.state.needs_daemon &&
                    !mounted.mount->wait_ended(std::chrono::milliseconds(0)).ok();
  if (!used) return drop(chain, generation);
  mounted.unmounted = true;
  mounted.pagers.clear();
}

void ImageMounts::drop(Chain& chain, uint64_t generation) {
  const auto it = std::find_if(chain.mounts.begin(), chain.mounts.end(),
                               [&](const Mounted& m) { return m.record.generation == generation; });
  if (it->record.state.needs_daemon && fd_store_.available()) {
    static_cast<void>(fd_store_.remove(fd_name(chain, generation)));
  }
  chain.mounts.erase(it);
}

void ImageMounts::drop_ended() {
  std::vector<std::pair<std::string, uint64_t>> ended;
  {
    MutexLock lock(ended_->mutex);
    ended.swap(ended_->mounts);
  }
  for (const auto& [key, generation] : ended) {
    std::shared_ptr<Chain> chain;
    {
      MutexLock lock(mutex_);
      if (const auto it = chains_.find(key); it != chains_.end()) chain = it->second;
    }
    if (chain == nullptr) continue;
    drop_ended(*chain, generation);
    if (chain->recorder != nullptr) forget(chain);
  }
}

void ImageMounts::drop_ended(Chain& chain, uint64_t generation) {
  MutexLock lock(chain.mutex);
  for (const Mounted& mounted : chain.mounts) {
    // The number may be that of a later mount by now.
    if (mounted.record.generation != generation || !mounted.unmounted ||
        !mounted.mount->wait_ended(std::chrono::milliseconds(0)).ok()) {
      continue;
    }
    drop(chain, generation);
    static_cast<void>(save(chain));
    return;
  }
}

void ImageMounts::release(const std::string& holder) {
  for (const auto& chain : chains()) {
    if (release_from(*chain, holder) && chain->recorder != nullptr) forget(chain);
  }
}

// Whether it held a mount of the chain.
bool ImageMounts::release_from(Chain& chain, const std::string& holder) {
  MutexLock lock(chain.mutex);
  bool changed = false;
  bool served = false;
  for (Mounted& mounted : chain.mounts) {
    if (mounted.record.holders.erase(holder) == 0) continue;
    changed = true;
    served |= mounted.record.holders.empty() && mounted.record.state.needs_daemon;
  }
  if (!changed) return false;
  // Before the unmount: should we die in between, the next daemon does it.
  if (served) static_cast<void>(save(chain));
  const size_t before = chain.mounts.size();
  for (size_t i = before; i-- > 0;) {
    Mounted& mounted = chain.mounts[i];
    if (mounted.record.holders.empty() && !mounted.unmounted) unmount(chain, mounted);
  }
  if (!served || chain.mounts.size() != before) static_cast<void>(save(chain));
  return true;
}

void ImageMounts::release_others(const std::string& prefix, const std::set<std::string>& live) {
  std::set<std::string> gone;
  for (const auto& chain : chains()) {
    MutexLock lock(chain->mutex);
    for (const Mounted& mounted : chain->mounts) {
      for (const std::string& holder : mounted.record.holders) {
        if (holder.starts_with(prefix) && !live.contains(holder)) gone.insert(holder);
      }
    }
  }
  for (const std::string& holder : gone) release(holder);
}

void ImageMounts::forget_layer(const std::string& id) {
  for (const auto& chain : chains()) {
    {
      MutexLock lock(chain->mutex);
      const auto& ids = chain->record.layers;
      if (std::find(ids.begin(), ids.end(), id) == ids.end()) continue;
    }
    forget(chain);
  }
}

// Where it has no mount.
void ImageMounts::forget(const std::shared_ptr<Chain>& chain) {
  {
    MutexLock lock(chain->mutex);
    if (!chain->mounts.empty()) return;
    std::error_code ignored;
    std::filesystem::remove_all(chain->dir, ignored);
    chain->forgotten = true;  // for who has found it and waits for its lock
  }
  MutexLock lock(mutex_);
  const auto it = chains_.find(chain->key);
  if (it != chains_.end() && it->second == chain) chains_.erase(it);
}

// `planned`: mounts that are about to be made.
Status ImageMounts::save(const Chain& chain, const std::vector<MountRecord>& planned) const {
  ImageRecord record = chain.record;
  for (const Mounted& mounted : chain.mounts) record.mounts.push_back(mounted.record);
  record.mounts.insert(record.mounts.end(), planned.begin(), planned.end());
  std::sort(record.mounts.begin(), record.mounts.end(),
            [](const auto& a, const auto& b) { return a.generation < b.generation; });
  const std::string text = format_image_record(record);
  return replace_file(chain.dir / kRecordFile, as_bytes(text), 0600);
}

Status ImageMounts::restore(std::vector<mount::StoredFd> stored) {
  std::map<std::string, UniqueFd> fds;
  for (mount::StoredFd& fd : stored) {
    if (fd.name.starts_with("image-")) fds[fd.name] = std::move(fd.fd);
  }
  const std::filesystem::path images = options_.root / "images";
  RETURN_IF_ERROR(make_dirs(images, 0700));
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(images, error)) {
    std::error_code ignored;
    if (!entry.is_directory(ignored)) continue;
    auto chain = std::make_shared<Chain>();
    chain->key = entry.path().filename();
    chain->dir = entry.path();
    if (chain->key.starts_with(kRecordingPrefix)) {
      unmount_strays(chain->dir, {});
      std::filesystem::remove_all(chain->dir, ignored);
      continue;
    }
    if (Status status = restore_chain(*chain, fds); !status.ok()) {
      log::warn("an image's mounts cannot be continued and are taken away",
                {{"folder", chain->dir.native()}, {"why", status.error().message}});
      unmount_strays(chain->dir, {});
      std::filesystem::remove(chain->dir / kRecordFile, ignored);
      std::filesystem::remove(chain->dir / kMetadataFile, ignored);
      std::filesystem::remove(chain->dir, ignored);
      continue;
    }
    MutexLock lock(mutex_);
    chains_[chain->key] = std::move(chain);
  }
  // What belongs to no mount of ours is given back.
  for (const auto& [name, fd] : fds) {
    if (fd.valid()) static_cast<void>(fd_store_.remove(name));
  }
  if (error) return Error(Code::internal, "list " + images.string() + ": " + error.message());
  return {};
}

Status ImageMounts::restore_chain(Chain& chain, Fds& fds) {
  MutexLock lock(chain.mutex);
  ASSIGN_OR_RETURN(const std::string text, read_file(chain.dir / kRecordFile, kMaxRecordFile));
  ASSIGN_OR_RETURN(chain.record, parse_image_record(text));
  const auto& layers = chain.record.layers;
  const auto& below = chain.record.below;
  if (chain.key != chain_key(layers, below, false) && chain.key != chain_key(layers, below, true)) {
    return Error(Code::corrupt_input, "its record is one of another image");
  }
  std::error_code ignored;
  chain.merged = std::filesystem::exists(chain.dir / kMetadataFile, ignored);
  std::vector<MountRecord> records = std::exchange(chain.record.mounts, {});
  std::set<uint64_t> known;
  for (const MountRecord& record : records) known.insert(record.generation);
  unmount_strays(chain.dir, known);
  const auto pagers = pagers_of(chain.record);
  std::vector<MountRecord> again;
  for (MountRecord& record : records) {
    const std::string name = fd_name(chain, record.generation);
    UniqueFd fd;
    if (const auto it = fds.find(name); it != fds.end()) fd = std::move(it->second);
    const bool had_fd = fd.valid();
    const Status adopted =
        pagers.ok() ? adopt(chain, record, *pagers, std::move(fd)) : Status(pagers.error());
    if (adopted.ok()) continue;
    if (adopted.error().code != Code::not_found || !pagers.ok()) {
      log::warn("a mount of the last run cannot be continued: its readers get errors",
                {{"image", chain.record.name}, {"why", adopted.error().message}});
    }
    if (had_fd) static_cast<void>(fd_store_.remove(name));
    // Dead, or taken away by a reboot.
    const std::filesystem::path target = target_of(chain, record.generation);
    static_cast<void>(mount::unmount(target, mount::UnmountMode::lazy));
    std::filesystem::remove(target, ignored);
    if (!record.holders.empty()) again.push_back(std::move(record));
  }
  if (pagers.ok() && chain.merged) mount_again(chain, std::move(again), *pagers);
  std::sort(chain.mounts.begin(), chain.mounts.end(),
            [](const auto& a, const auto& b) { return a.record.generation < b.record.generation; });
  for (size_t i = chain.mounts.size(); i-- > 0;) {
    Mounted& mounted = chain.mounts[i];
    if (mounted.record.holders.empty() && !mounted.unmounted) unmount(chain, mounted);
    else load_rest(mounted);
  }
  // What is mounted is what the record on disk says, but for what is gone: a
  // full disk must not cost the readers their mounts.
  if (Status saved = save(chain); !saved.ok()) {
    log::warn("an image's mounts cannot be recorded",
              {{"image", chain.record.name}, {"why", saved.error().message}});
  }
  return {};
}

// Mounts anew what is still held, in the same places.
void ImageMounts::mount_again(Chain& chain, std::vector<MountRecord> records,
                              const Pagers& pagers) {
  if (records.empty()) return;
  std::vector<MountRecord> planned = records;
  for (MountRecord& record : planned) {
    record.state = {};
    record.state.needs_daemon = engine_.serves_always();
    for (size_t i = 0; i < pagers.size(); ++i) {
      record.local[i] = pagers[i]->layer().complete();
      if (!record.local[i]) record.state.needs_daemon = true;
    }
  }
  // First, as a successor must not take over a mount by a record that tells
  // other devices. Without room for that, the devices stay what they were.
  if (Status saved = save(chain, planned); !saved.ok()) {
    log::warn("an image is mounted as before, from the daemon, since the disk takes no record",
              {{"image", chain.record.name}, {"why", saved.error().message}});
    planned = std::move(records);
  }
  for (MountRecord& record : planned) {
    bool possible = true;
    for (size_t i = 0; i < pagers.size(); ++i) {
      possible &= !record.local[i] || pagers[i]->layer().complete();
    }
    Result<Mounted> again =
        possible ? make_mount(chain, std::move(record), pagers)
                 : Error(Code::exhausted, "a layer has lost bytes, and the disk is full");
    if (again.ok()) {
      chain.mounts.push_back(*std::move(again));
    } else {
      log::warn("an image cannot be mounted again",
                {{"image", chain.record.name}, {"why", again.error().message}});
    }
  }
}

// not_found where the mount is gone; other errors where nobody can serve it any
// more.
Status ImageMounts::adopt(Chain& chain, MountRecord record, const Pagers& pagers, UniqueFd fd) {
  const Result<bool> is_mounted = mount::is_mount_point(target_of(chain, record.generation));
  if (!is_mounted.ok() && is_mounted.error().code != Code::not_found) return is_mounted.error();
  Mounted mounted;
  mounted.unmounted = !is_mounted.ok() || !*is_mounted;
  if (mounted.unmounted && !fd) return Error(Code::not_found, "it is not mounted");
  if (record.state.needs_daemon && !fd) {
    return Error(Code::failed_precondition, "its descriptor was not kept");
  }
  if (serves_local_devices(record.state.engine)) {
    // What has lost bytes since (a damaged store, an eviction) comes from the
    // registry again, not from a data file with holes.
    for (size_t i = 0; i < pagers.size(); ++i) {
      record.local[i] = record.local[i] && pagers[i]->layer().complete();
    }
  }
  mount::ImageSpec spec = spec_of(chain, record, pagers);
  auto adopted = mounted.unmounted
                     ? engine_.adopt_unmounted(std::move(spec), std::move(fd), record.state)
                     : engine_.adopt(std::move(spec), std::move(fd), record.state);
  if (!adopted.ok()) return adopted.error();
  mounted.mount = *std::move(adopted);
  mounted.record = std::move(record);
  if (mounted.unmounted) mounted.record.holders.clear();  // they ask anew
  else mounted.pagers = pagers;
  chain.mounts.push_back(std::move(mounted));
  return {};
}

std::vector<ImageMounts::ChainStatus> ImageMounts::list() const {
  std::vector<ChainStatus> all;
  for (const auto& chain : chains()) {
    MutexLock lock(chain->mutex);
    ChainStatus status;
    status.key = chain->key;
    status.record = chain->record;
    for (const Mounted& mounted : chain->mounts) {
      status.record.mounts.push_back(mounted.record);
      if (!mounted.unmounted) status.layers = mounted.pagers;
      if (mounted.mount != nullptr) status.reads += mounted.mount->stats().reads;
      else status.dead = true;
    }
    all.push_back(std::move(status));
  }
  return all;
}

}  // namespace pagein::node
