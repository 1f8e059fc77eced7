#include "store/layer_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

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
  Turn(LayerStore& store, std::string id) : id(std::move(id)), store_(store) {
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
  return std::unique_ptr<LayerStore>(new LayerStore(layers, std::move(lock), options));
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

Result<std::shared_ptr<Layer>> LayerStore::make(const Turn& turn, ByteView head) {
  const std::string& id = turn.id;
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
  // Renamed when whole, so a crash leaves a half-made folder that open() removes.
  if (::rename(dir.c_str(), (root_ / id).c_str()) != 0) {
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

Status LayerStore::remove(const std::string& id) {
  if (!is_id(id)) return Error(Code::not_found, "\"" + id + "\" names no layer");
  const Turn turn(*this, id);
  {
    MutexLock lock(mutex_);
    if (auto it = open_.find(id); it != open_.end()) {
      if (!it->second.expired()) {
        return Error(Code::failed_precondition, "layer " + id + " is in use");
      }
      open_.erase(it);
    }
  }
  // Out of the way first: a crash in the middle leaves a half-made name.
  const std::filesystem::path grave = root_ / (std::string(kHalfMade) + id);
  std::error_code error;
  std::filesystem::remove_all(grave, error);  // of a removal that failed
  if (::rename((root_ / id).c_str(), grave.c_str()) != 0) {
    return errno_error(errno, "remove layer " + id);
  }
  std::filesystem::remove_all(grave, error);
  if (error) return Error(Code::internal, "remove layer " + id + ": " + error.message());
  return {};
}

LayerStore::Usage LayerStore::usage() const {
  Usage usage;
  for (const std::string& id : list()) {
    ++usage.layers;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(root_ / id, ignored)) {
      struct stat st;
      if (::stat(entry.path().c_str(), &st) == 0) {
        usage.bytes += static_cast<uint64_t>(st.st_blocks) * 512;
      }
    }
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
