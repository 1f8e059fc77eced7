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
  const std::string key = chain_key(request.layers, request.below, request.remote_below);
  MutexLock lock(mutex_);
  std::shared_ptr<Chain>& chain = chains_[key];
  if (chain == nullptr) {
    chain = std::make_shared<Chain>();
    chain->key = key;
    chain->dir = options_.root / "images" / key;
    MutexLock chain_lock(chain->mutex);
    chain->record.layers = request.layers;
    chain->record.below = request.below;
    chain->record.name = request.name;
  }
  return chain;
}

Result<std::vector<std::shared_ptr<fetch::LayerPager>>> ImageMounts::pagers_of(
    const ImageRecord& record) {
  std::vector<std::shared_ptr<fetch::LayerPager>> pagers;
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

Status ImageMounts::merge(Chain& chain,
                          const std::vector<std::shared_ptr<fetch::LayerPager>>& pagers,
                          bool remote_below) {
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

mount::ImageSpec ImageMounts::spec_of(
    const Chain& chain, const MountRecord& record,
    const std::vector<std::shared_ptr<fetch::LayerPager>>& pagers) const {
  mount::ImageSpec spec;
  spec.id = "pagein-" + chain.key.substr(0, 12);
  spec.metadata = chain.dir / kMetadataFile;
  for (size_t i = 0; i < pagers.size(); ++i) {
    store::Layer& layer = pagers[i]->layer();
    spec.devices.push_back(record.local[i]
                               ? mount::ImageDevice::local(layer.data_path(), layer.data_size())
                               : mount::ImageDevice::virtual_file(make_layer_device(
                                     context_, pagers[i], chain.record.name)));
  }
  spec.target = target_of(chain, record.generation);
  spec.caching = options_.caching;
  return spec;
}

Result<ImageMounts::Mounted> ImageMounts::make_mount(
    Chain& chain, MountRecord record, std::vector<std::shared_ptr<fetch::LayerPager>> pagers) {
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
  for (const auto& pager : pagers) local.push_back(pager->layer().complete());
  const bool all_local = std::find(local.begin(), local.end(), false) == local.end();

  Mounted* newest = nullptr;
  uint64_t generation = 1;
  for (Mounted& mounted : chain.mounts) {
    generation = std::max(generation, mounted.record.generation + 1);
    if (mounted.mount != nullptr) newest = &mounted;
  }
  if (newest == nullptr || (all_local && newest->record.state.needs_daemon)) {
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
  for (const auto& pager : newest->pagers) {
    if (!pager->settled() && options_.load_rest) options_.load_rest(pager);
  }
  return target_of(chain, newest->record.generation);
}

void ImageMounts::unmount(Chain& chain, Mounted& mounted) {
  const uint64_t generation = mounted.record.generation;
  const std::filesystem::path target = target_of(chain, generation);
  Status status = mounted.mount != nullptr
                      ? mounted.mount->unmount(mount::UnmountMode::lazy)
                      : mount::unmount(target, mount::UnmountMode::lazy);
  if (!status.ok()) {
    log::warn("cannot unmount an image", {{"image", chain.record.name},
                                          {"why", status.error().message}});
  }
  if (mounted.record.state.needs_daemon && fd_store_.available()) {
    static_cast<void>(fd_store_.remove(fd_name(chain, generation)));
  }
  // An overlay may still hold the file system: then its connection, and with it
  // the layers, live on until that ends.
  mounted.mount.reset();
  std::error_code ignored;
  std::filesystem::remove(target, ignored);
  std::erase_if(chain.mounts, [&](const Mounted& m) { return m.record.generation == generation; });
}

void ImageMounts::release(const std::string& holder) {
  for (const auto& chain : chains()) {
    MutexLock lock(chain->mutex);
    bool changed = false;
    for (size_t i = chain->mounts.size(); i-- > 0;) {
      Mounted& mounted = chain->mounts[i];
      if (mounted.record.holders.erase(holder) == 0) continue;
      changed = true;
      if (mounted.record.holders.empty()) unmount(*chain, mounted);
    }
    if (changed) static_cast<void>(save(*chain));
  }
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
      if (!chain->mounts.empty() || std::find(ids.begin(), ids.end(), id) == ids.end()) continue;
      std::error_code ignored;
      std::filesystem::remove_all(chain->dir, ignored);
      chain->forgotten = true;  // for who has found it and waits for its lock
    }
    MutexLock lock(mutex_);
    const auto it = chains_.find(chain->key);
    if (it != chains_.end() && it->second == chain) chains_.erase(it);
  }
}

Status ImageMounts::save(Chain& chain) {
  ImageRecord record = chain.record;
  for (const Mounted& mounted : chain.mounts) record.mounts.push_back(mounted.record);
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
  for (MountRecord& record : records) restore_mount(chain, std::move(record), pagers, fds);
  return save(chain);
}

void ImageMounts::restore_mount(
    Chain& chain, MountRecord record,
    const Result<std::vector<std::shared_ptr<fetch::LayerPager>>>& pagers, Fds& fds) {
  const std::filesystem::path target = target_of(chain, record.generation);
  Mounted mounted;
  mounted.mount = adopt(chain, record, pagers, fds);
  if (mounted.mount != nullptr) {
    mounted.record = std::move(record);
    mounted.pagers = *pagers;
  } else {
    // Dead, or taken away by a reboot: mounted anew for whoever still holds it.
    static_cast<void>(mount::unmount(target, mount::UnmountMode::lazy));
    std::error_code ignored;
    std::filesystem::remove(target, ignored);
    if (record.holders.empty() || !pagers.ok() || !chain.merged) return;
    for (size_t i = 0; i < pagers->size(); ++i) {
      record.local[i] = (*pagers)[i]->layer().complete();
    }
    auto again = make_mount(chain, std::move(record), *pagers);
    if (!again.ok()) {
      log::warn("an image cannot be mounted again",
                {{"image", chain.record.name}, {"why", again.error().message}});
      return;
    }
    mounted = *std::move(again);
  }
  chain.mounts.push_back(std::move(mounted));
  Mounted& last = chain.mounts.back();
  if (last.record.holders.empty()) return unmount(chain, last);
  for (const auto& pager : last.pagers) {
    if (!pager->settled() && options_.load_rest) options_.load_rest(pager);
  }
}

// Null where the mount is gone, or nobody can serve it any more.
std::unique_ptr<mount::ImageMount> ImageMounts::adopt(
    const Chain& chain, const MountRecord& record,
    const Result<std::vector<std::shared_ptr<fetch::LayerPager>>>& pagers, Fds& fds) {
  const std::string name = fd_name(chain, record.generation);
  UniqueFd fd;
  if (const auto it = fds.find(name); it != fds.end()) fd = std::move(it->second);
  const bool had_fd = fd.valid();
  Status problem;
  if (auto is_mounted = mount::is_mount_point(target_of(chain, record.generation)); !is_mounted.ok()) {
    problem = is_mounted.error();
  } else if (!*is_mounted) {
    problem = Error(Code::not_found, "it is not mounted");
  } else if (!pagers.ok()) {
    problem = Error(Code::failed_precondition, pagers.error().message);
  } else if (record.state.needs_daemon && !had_fd) {
    problem = Error(Code::failed_precondition, "its descriptor was not kept");
  } else {
    auto adopted = engine_.adopt(spec_of(chain, record, *pagers), std::move(fd), record.state);
    if (adopted.ok()) return *std::move(adopted);
    problem = adopted.error();
  }
  if (problem.error().code != Code::not_found) {
    log::warn("a mount of the last run cannot be continued: its readers get errors",
              {{"image", chain.record.name}, {"why", problem.error().message}});
  }
  if (had_fd) static_cast<void>(fd_store_.remove(name));
  return nullptr;
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
      status.layers = mounted.pagers;
      if (mounted.mount != nullptr) status.reads += mounted.mount->stats().reads;
      else status.dead = true;
    }
    all.push_back(std::move(status));
  }
  return all;
}

}  // namespace pagein::node
