#include "store/layer_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/log.h"
#include "base/sha256.h"
#include "oci/digest.h"
#include "store/layer_files.h"

namespace pagein::store {
namespace {

// As the index format allows (docs/formats/layer-index.md).
constexpr uint64_t kMaxHead = 256ULL << 20;
constexpr uint64_t kMaxState = 1 << 20;
constexpr std::string_view kHalfMade = ".new-";

bool is_id(std::string_view name) { return oci::Digest::parse("sha256:" + std::string(name)).ok(); }

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

}  // namespace

// The layer's name is kept busy, not the store's lock: opening may read all of a
// layer, and those of other layers must not wait for that.
class LayerStore::Turn {
 public:
  Turn(LayerStore& store, std::string layer) : id(std::move(layer)), store_(store) {
    MutexLock lock(store_.mutex_);
    while (store_.turns_.contains(this->id)) store_.turn_ended_.wait(store_.mutex_);
    store_.turns_.insert(this->id);
  }
  ~Turn() {
    {
      MutexLock lock(store_.mutex_);
      store_.turns_.erase(id);
    }
    store_.turn_ended_.notify_all();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  const std::string id;

 private:
  LayerStore& store_;
};

LayerStore::LayerStore(std::filesystem::path root, UniqueFd lock, const LayerStoreOptions& options)
    : root_(std::move(root)),
      lock_(std::move(lock)),
      meter_(std::make_shared<SyncMeter>(options.sync_after)) {}

LayerStore::~LayerStore() = default;

Result<std::unique_ptr<LayerStore>> LayerStore::open(const std::filesystem::path& root,
                                                     const LayerStoreOptions& options) {
  const std::filesystem::path layers = root / "layers";
  RETURN_IF_ERROR(make_dirs(layers, 0700));
  ASSIGN_OR_RETURN(UniqueFd lock, open_file(root / "lock", O_RDWR | O_CREAT, 0600));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error(Code::failed_precondition,
                 root.string() +
                     " is in use by another pageind; stop it first, or give this one "
                     "another root");
  }
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(layers, ignored)) {
    if (entry.path().filename().native().starts_with(kHalfMade)) {
      std::filesystem::remove_all(entry.path(), ignored);
    }
  }
  std::unique_ptr<LayerStore> store(new LayerStore(layers, std::move(lock), options));
  store->recount();
  store->space_->set_limit(options.max_bytes);
  return store;
}

std::string LayerStore::id_of(ByteView head) { return oci::Digest::of(head).hex(); }

Result<std::shared_ptr<Layer>> LayerStore::create(ByteView head) {
  const Turn turn(*this, id_of(head));
  Result<std::shared_ptr<Layer>> found = load(turn);
  if (found.ok() || found.error().code != Code::not_found) return found;
  return make(turn, head);
}

Result<std::shared_ptr<Layer>> LayerStore::find(const std::string& id) {
  if (!is_id(id)) return Error(Code::not_found, "\"" + id + "\" names no layer");
  return load(Turn(*this, id));
}

// The files of an empty layer, synced, in a folder that a start removes.
Result<TempDir> LayerStore::make_files(const std::string& id, ByteView head) const {
  ASSIGN_OR_RETURN(auto index, index::parse_head(head));
  ASSIGN_OR_RETURN(TempDir temp, TempDir::make(std::string(kHalfMade), root_));
  const auto& dir = temp.path();
  RETURN_IF_ERROR(replace_file(dir / kHeadFile, head, 0600));
  RETURN_IF_ERROR(replace_file(dir / kStateFile, as_bytes(format_state({})), 0600));
  for (const char* name : {kDataFile, kRestFile, kSumsFile}) {
    ASSIGN_OR_RETURN(UniqueFd fd, open_file(dir / name, O_RDWR | O_CREAT | O_EXCL, 0600));
    if (name == kDataFile &&
        ::ftruncate(fd.get(), static_cast<off_t>(index->layout.data_size())) != 0) {
      return errno_error(errno, "size the data file of layer " + id);
    }
    if (::fsync(fd.get()) != 0) return errno_error(errno, "sync a file of layer " + id);
  }
  Presence empty(index->spans.size());
  RETURN_IF_ERROR(Presence::save(dir / kPresentFile, index->spans.size(), empty.snapshot(),
                                 Presence::Stop::clean));
  return temp;
}

Result<std::shared_ptr<Layer>> LayerStore::make(const Turn& turn, ByteView head) {
  const std::string& id = turn.id;
  ASSIGN_OR_RETURN(const TempDir temp, make_files(id, head));
  // Renamed when whole, so a crash leaves a half-made folder that open() removes.
  if (::rename(temp.path().c_str(), (root_ / id).c_str()) != 0) {
    return errno_error(errno, "put layer " + id + " in its place");
  }
  RETURN_IF_ERROR(fsync_dir(root_));
  return load(turn);
}

Result<std::shared_ptr<Layer>> LayerStore::load(const Turn& turn) {
  const std::string& id = turn.id;
  {
    MutexLock lock(mutex_);
    if (auto it = open_.find(id); it != open_.end()) {
      if (std::shared_ptr<Layer> layer = it->second.lock()) return layer;
    }
  }
  if (!is_there(root_ / id)) return Error(Code::not_found, "layer " + id + " is not in the store");
  Result<std::shared_ptr<Layer>> layer = load_files(id);
  if (layer.ok()) {
    MutexLock lock(mutex_);
    open_[id] = *layer;
    return layer;
  }
  const Error& error = layer.error();
  if (error.code != Code::corrupt_input && error.code != Code::not_found) return layer;
  log::warn("a damaged layer is dropped from the store and will be fetched again",
            {{"layer", id}, {"why", error.message}});
  std::error_code ignored;
  std::filesystem::remove_all(root_ / id, ignored);
  return Error(Code::not_found, "layer " + id + " was damaged: " + error.message);
}

Result<std::shared_ptr<Layer>> LayerStore::load_files(const std::string& id) const {
  const std::filesystem::path dir = root_ / id;
  ASSIGN_OR_RETURN(const std::string head, read_small_file(dir / kHeadFile, kMaxHead));
  if (id_of(as_bytes(head)) != id) {
    return Error(Code::corrupt_input, "the index of layer " + id + " changed on disk");
  }
  ASSIGN_OR_RETURN(auto index, index::parse_head(as_bytes(head)));
  ASSIGN_OR_RETURN(const std::string state_text, read_small_file(dir / kStateFile, kMaxState));
  ASSIGN_OR_RETURN(LayerState state, parse_state(state_text));
  Layer::Files files;
  files.dir = dir;
  files.meter = meter_;
  files.space = space_;
  note_use(dir);
  ASSIGN_OR_RETURN(files.data, open_file(dir / kDataFile, O_RDWR));
  const off_t size = ::lseek(files.data.get(), 0, SEEK_END);
  if (size < 0 || static_cast<uint64_t>(size) != index->layout.data_size()) {
    return Error(Code::corrupt_input, "the data file of layer " + id + " has the wrong size");
  }
  ASSIGN_OR_RETURN(files.sums, open_file(dir / kSumsFile, O_RDWR));
  ASSIGN_OR_RETURN(files.rest, open_file(dir / kRestFile, O_RDWR | O_CREAT, 0600));
  // A crash can come between "complete" and the end of what it made useless.
  if (state.complete && ::ftruncate(files.rest.get(), 0) != 0) {
    return errno_error(errno, "empty " + (dir / kRestFile).string());
  }
  auto presence = std::make_unique<Presence>(index->spans.size());
  ASSIGN_OR_RETURN(const Presence::Stop stop, presence->load(dir / kPresentFile));
  if (state.complete && !presence->full()) {
    return Error(Code::corrupt_input, "layer " + id + " is called complete but has gaps");
  }
  auto layer = std::make_shared<Layer>(id, std::move(index), std::move(files), std::move(state),
                                       std::move(presence));
  if (stop == Presence::Stop::clean) return layer;
  ASSIGN_OR_RETURN(const size_t dropped, layer->complete() ? layer->scrub_holes() : layer->scrub());
  if (dropped > 0) {
    log::warn("spans of a layer did not survive the last stop and will be fetched again",
              {{"layer", id}, {"spans", dropped}});
  }
  return layer;
}

std::vector<std::string> LayerStore::list() const {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(root_, ignored)) {
    if (std::string name = entry.path().filename(); is_id(name)) names.push_back(std::move(name));
  }
  return names;
}

// Precondition: it is the caller's turn.
Status LayerStore::set_aside(const std::string& id) {
  MutexLock lock(mutex_);
  const auto it = open_.find(id);
  if (it == open_.end()) return {};
  if (!it->second.expired()) {
    return Error(Code::failed_precondition, "layer " + id + " is in use");
  }
  open_.erase(it);
  return {};
}

Status LayerStore::remove(const std::string& id) {
  if (!is_id(id)) return Error(Code::not_found, "\"" + id + "\" names no layer");
  const Turn turn(*this, id);
  RETURN_IF_ERROR(set_aside(id));
  const uint64_t bytes = bytes_of(id);
  // Out of the way first: a crash in the middle leaves a half-made name.
  const std::filesystem::path grave = root_ / (std::string(kHalfMade) + id);
  std::error_code error;
  std::filesystem::remove_all(grave, error);  // of a removal that failed
  if (::rename((root_ / id).c_str(), grave.c_str()) != 0) {
    return errno_error(errno, "remove layer " + id);
  }
  std::filesystem::remove_all(grave, error);
  if (error) return Error(Code::internal, "remove layer " + id + ": " + error.message());
  space_->freed(bytes);
  return {};
}

Status LayerStore::empty(const std::string& id) {
  if (!is_id(id)) return Error(Code::not_found, "\"" + id + "\" names no layer");
  const Turn turn(*this, id);
  RETURN_IF_ERROR(set_aside(id));
  const std::filesystem::path dir = root_ / id;
  if (!is_there(dir)) return Error(Code::not_found, "layer " + id + " is not in the store");
  const uint64_t before = bytes_of(id);
  ASSIGN_OR_RETURN(const std::string head, read_small_file(dir / kHeadFile, kMaxHead));
  if (id_of(as_bytes(head)) != id) {
    return Error(Code::corrupt_input, "the index of layer " + id + " changed on disk");
  }
  ASSIGN_OR_RETURN(const TempDir fresh, make_files(id, as_bytes(head)));
  // In one step, so that a crash leaves the old files or the new ones.
  if (::renameat2(AT_FDCWD, fresh.path().c_str(), AT_FDCWD, dir.c_str(), RENAME_EXCHANGE) != 0) {
    return errno_error(errno, "empty layer " + id);
  }
  const uint64_t after = bytes_of(id);
  space_->freed(before - std::min(before, after));
  return fsync_dir(root_);
}

LayerStore::Evicted LayerStore::evict(uint64_t target) {
  Evicted evicted;
  uint64_t used = usage().bytes;
  space_->recounted(used);
  std::vector<std::pair<int64_t, std::string>> oldest;
  for (std::string& id : list()) oldest.emplace_back(last_use(root_ / id), std::move(id));
  std::sort(oldest.begin(), oldest.end());
  for (const auto& [time, id] : oldest) {
    if (used <= target) break;
    const uint64_t before = bytes_of(id);
    const auto state = read_small_file(root_ / id / kStateFile, kMaxState);
    const auto parsed = state.ok() ? parse_state(*state) : state.error();
    if (parsed.ok() && !parsed->quarantined.empty()) continue;
    if (Status status = empty(id); !status.ok()) {
      if (status.error().code != Code::failed_precondition) {
        log::warn("a layer cannot be evicted", {{"layer", id}, {"why", status.error().message}});
      }
      continue;
    }
    const uint64_t after = bytes_of(id);
    if (after >= before) continue;  // it was empty
    log::info("a layer is evicted", {{"layer", id}, {"bytes", before - after}});
    used -= std::min(used, before - after);
    evicted.bytes += before - after;
    ++evicted.layers;
  }
  return evicted;
}

uint64_t LayerStore::bytes_of(const std::string& id) const {
  uint64_t bytes = 0;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(root_ / id, ignored)) {
    struct stat st;
    if (::stat(entry.path().c_str(), &st) == 0) {
      bytes += static_cast<uint64_t>(st.st_blocks) * 512;
    }
  }
  return bytes;
}

LayerStore::Usage LayerStore::usage() const {
  Usage usage;
  for (const std::string& id : list()) {
    ++usage.layers;
    usage.bytes += bytes_of(id);
  }
  return usage;
}

std::vector<std::shared_ptr<Layer>> LayerStore::open_layers() const {
  std::vector<std::shared_ptr<Layer>> layers;
  MutexLock lock(mutex_);
  for (const auto& [id, weak] : open_) {
    if (auto layer = weak.lock()) layers.push_back(std::move(layer));
  }
  return layers;
}

Status LayerStore::sync_all() {
  Status first;
  for (const auto& layer : open_layers()) {
    if (layer->unsynced_bytes() == 0) continue;
    if (Status status = layer->sync(); !status.ok() && first.ok()) first = std::move(status);
  }
  return first;
}

Status LayerStore::close_cleanly() {
  Status first;
  for (const auto& layer : open_layers()) {
    if (Status status = layer->close_cleanly(); !status.ok() && first.ok())
      first = std::move(status);
  }
  return first;
}

}  // namespace pagein::store
