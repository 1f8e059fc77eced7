#include "snapshotter/snapshotter.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <unordered_set>

#include "base/file.h"
#include "base/log.h"
#include "snapshotter/filter.h"
#include "snapshotter/metadata.h"
#include "snapshotter/removal_queue.h"
#include "snapshotter/tree.h"

namespace pagein::snapshotter {

namespace {

constexpr mode_t kUpperMode = 0755;
constexpr mode_t kWorkMode = 0711;
constexpr mode_t kPermissionBits = 07777;

Time system_now() {
  return std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
}

// The mode is set whatever the umask.
Status make_folder(const std::filesystem::path& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) != 0 || ::chmod(path.c_str(), mode) != 0) {
    return errno_error(errno, "make folder " + path.string());
  }
  return {};
}

// overlayfs needs file types in readdir (old XFS without ftype=1 has none).
Status check_file_types(const std::filesystem::path& root) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(root.c_str()), &::closedir);
  if (!dir) return errno_error(errno, "open " + root.string());
  while (const dirent* entry = ::readdir(dir.get())) {
    if (entry->d_type == DT_UNKNOWN) {
      return Error(Code::unsupported, root.string() +
                                          ": its filesystem reports no file types; "
                                          "format XFS with ftype=1, or choose another");
    }
  }
  return {};
}

// Folders without their database belong to nobody we know, but running
// containers may stand on them: they are kept, under another name.
Status keep_unknown_folders(const std::filesystem::path& dir, Time now) {
  std::error_code error;
  if (std::filesystem::is_empty(dir, error) || error) return {};
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch());
  const std::string kept = dir.string() + ".lost-" + std::to_string(seconds.count());
  if (::rename(dir.c_str(), kept.c_str()) != 0) {
    return errno_error(errno, "moving " + dir.string() + " to " + kept);
  }
  log::error(
      "snapshot folders without a database are kept; delete them when no container "
      "uses them",
      {{"folder", kept}});
  return make_folder(dir, 0700);
}

void warn(std::string_view what, const std::string& subject, const Error& error) {
  log::warn(what, {{"snapshot", subject}, {"error", error.message}});
}

}  // namespace

Snapshotter::Snapshotter(SnapshotterOptions options, std::unique_ptr<Metadata> metadata,
                         OverlayFeatures features)
    : options_(std::move(options)),
      snapshots_dir_(options_.root / "snapshots"),
      metadata_(std::move(metadata)),
      features_(features),
      removals_(std::make_unique<RemovalQueue>(
          [this](const std::string& layer, const std::string& name) { drop_layer(layer, name); })) {
}

Snapshotter::~Snapshotter() = default;

Result<std::unique_ptr<Snapshotter>> Snapshotter::open(SnapshotterOptions options) {
  if (!options.now) options.now = system_now;
  RETURN_IF_ERROR(make_dirs(options.root, 0700));
  // containerd resolves mounts from its own working folder.
  std::error_code error;
  options.root = std::filesystem::absolute(options.root, error);
  const std::filesystem::path dir = options.root / "snapshots";
  RETURN_IF_ERROR(make_dirs(dir, 0700));
  RETURN_IF_ERROR(check_file_types(options.root));
  ASSIGN_OR_RETURN(auto metadata, Metadata::open(options.root / "metadata.db"));
  if (metadata->opened() != Opened::existing) {
    RETURN_IF_ERROR(keep_unknown_folders(dir, options.now()));
  }
  const OverlayFeatures features = probe_overlay(options.root);
  std::unique_ptr<Snapshotter> snapshotter(
      new Snapshotter(std::move(options), std::move(metadata), features));
  RETURN_IF_ERROR(snapshotter->cleanup());
  return snapshotter;
}

std::filesystem::path Snapshotter::dir_of(int64_t id) const {
  return snapshots_dir_ / std::to_string(id);
}
std::filesystem::path Snapshotter::fs_of(int64_t id) const { return dir_of(id) / "fs"; }

ReattachReport Snapshotter::reattach() {
  ReattachReport report;
  if (options_.backend == nullptr) return report;
  auto infos = metadata_->list();
  if (!infos.ok()) {
    report.failed.push_back(infos.error().message);
    return report;
  }
  for (const Info& info : *infos) {
    if (info.kind == Kind::committed) continue;
    auto stack = metadata_->stack(info.name);
    if (stack.ok() && !has_remote(*stack)) continue;
    const Status status = stack.ok() ? attach(*stack) : Status(stack.error());
    if (status.ok()) {
      ++report.attached;
    } else {
      report.failed.push_back(info.name + ": " + status.error().message);
    }
  }
  // Without the whole list the backend must not think anything is left over.
  if (auto layers = metadata_->layers(); layers.ok() && report.failed.empty()) {
    options_.backend->finish_reattach(*layers);
  }
  return report;
}

Status Snapshotter::attach(const Stack& stack) {
  ASSIGN_OR_RETURN([[maybe_unused]] const auto lowers, lower_dirs(stack));
  return {};
}

bool Snapshotter::has_remote(const Stack& stack) {
  for (const ChainLayer& parent : stack.parents) {
    if (parent.remote()) return true;
  }
  return false;
}

Result<std::vector<Mount>> Snapshotter::prepare(const std::string& key, const std::string& parent,
                                                const Labels& labels) {
  if (options_.backend != nullptr && labels.contains(kSnapshotRefLabel)) {
    ASSIGN_OR_RETURN(const bool served, offer_to_backend(parent, labels));
    if (served) {
      return Error(Code::already_exists,
                   "target snapshot \"" + labels.at(kSnapshotRefLabel) + "\" is served lazily");
    }
  }
  return create({Kind::active, key, parent, labels});
}

Result<std::vector<Mount>> Snapshotter::view(const std::string& key, const std::string& parent,
                                             const Labels& labels) {
  return create({Kind::view, key, parent, labels});
}

Result<bool> Snapshotter::offer_to_backend(const std::string& parent, const Labels& labels) {
  LayerRequest request{labels.at(kSnapshotRefLabel), parent, {}, labels};
  if (request.snapshot_ref.empty()) return false;
  if (!parent.empty()) {
    ASSIGN_OR_RETURN(const Record record, metadata_->get(parent));
    if (record.info.kind != Kind::committed) return false;  // create() says why
    request.parent_layer = record.layer;
  }
  ASSIGN_OR_RETURN(const bool there, metadata_->has_remote(request.snapshot_ref, parent));
  if (there) return true;

  const RemovalQueue::Preparing preparing(*removals_);
  auto layer = options_.backend->prepare_layer(request);
  if (!layer.ok()) {
    warn("a layer cannot be served lazily and is left to containerd", request.snapshot_ref,
         layer.error());
    return false;
  }
  if (!layer->has_value() || (*layer)->empty()) return false;
  const Status stored =
      metadata_->create_remote({request.snapshot_ref, parent, labels, **layer}, options_.now());
  if (stored.ok() || stored.error().code == Code::already_exists) return true;
  return stored.error();
}

Result<std::vector<Mount>> Snapshotter::create(const NewSnapshot& snapshot) {
  int64_t id = 0;
  auto stack = metadata_->create(snapshot, options_.now(), [&](const Stack& created) {
    id = created.id;
    return make_folders(created);
  });
  if (!stack.ok()) {
    if (id != 0) delete_folder(id);
    return std::move(stack).error();
  }
  auto mounts = mount_new(*stack);
  if (!mounts.ok()) {
    // Nobody knows of it yet.
    if (const Status status = remove(snapshot.key); !status.ok()) {
      warn("a snapshot that failed could not be removed", snapshot.key, status.error());
    }
  }
  return mounts;
}

// Inside the transaction. What a crash leaves has no row and is an orphan (I1).
Status Snapshotter::make_folders(const Stack& stack) {
  const std::filesystem::path dir = dir_of(stack.id);
  RETURN_IF_ERROR(remove_tree(dir));  // of a transaction that was rolled back
  RETURN_IF_ERROR(make_folder(dir, 0700));
  RETURN_IF_ERROR(make_folder(dir / "fs", kUpperMode));
  if (stack.kind == Kind::active) RETURN_IF_ERROR(make_folder(dir / "work", kWorkMode));
  return {};
}

Result<std::vector<Mount>> Snapshotter::mount_new(const Stack& stack) {
  ASSIGN_OR_RETURN(std::vector<std::string> lowers, lower_dirs(stack));
  if (!lowers.empty()) RETURN_IF_ERROR(inherit_root(stack, lowers.front()));
  return mounts_of(stack, std::move(lowers));
}

// The root folder of an overlay is its upper's: it gets the parent's owner and
// mode, as nothing else would copy them up.
Status Snapshotter::inherit_root(const Stack& stack, const std::string& parent) {
  struct stat st;
  if (::stat(parent.c_str(), &st) != 0) return errno_error(errno, "stat parent " + parent);
  const std::filesystem::path fs = fs_of(stack.id);
  if (::lchown(fs.c_str(), st.st_uid, st.st_gid) != 0 ||
      ::chmod(fs.c_str(), st.st_mode & kPermissionBits) != 0) {
    return errno_error(errno, "giving " + fs.string() + " its parent's owner and mode");
  }
  return {};
}

std::vector<Mount> Snapshotter::mounts_of(const Stack& stack, std::vector<std::string> lowers) {
  return make_mounts({stack.kind, fs_of(stack.id), dir_of(stack.id) / "work", std::move(lowers)},
                     features_);
}

// Topmost first: the fs folder of each ordinary layer, and what the backend
// mounts for each run of remote layers.
Result<std::vector<std::string>> Snapshotter::lower_dirs(const Stack& stack) {
  std::vector<std::string> lowers;
  const std::vector<ChainLayer>& parents = stack.parents;
  for (size_t top = 0; top < parents.size();) {
    if (!parents[top].remote()) {
      lowers.push_back(fs_of(parents[top].id).string());
      ++top;
      continue;
    }
    size_t end = top;  // one below the run
    while (end < parents.size() && parents[end].remote()) ++end;
    ASSIGN_OR_RETURN(std::vector<std::string> run, mount_run(stack, top, end));
    lowers.insert(lowers.end(), run.begin(), run.end());
    top = end;
  }
  return lowers;
}

Result<std::vector<std::string>> Snapshotter::mount_run(const Stack& stack, size_t top,
                                                        size_t end) {
  if (options_.backend == nullptr) {
    return Error(Code::unavailable,
                 "the snapshot stands on layers that are served lazily, and "
                 "this service has nothing to serve them");
  }
  RunRequest request;
  request.holder = std::to_string(stack.id);
  for (size_t i = end; i > top; --i) request.layers.push_back(stack.parents[i - 1].layer);
  for (size_t i = end; i < stack.parents.size(); ++i) {
    if (stack.parents[i].remote()) {
      request.remote_below = true;
    } else {
      request.ordinary_below.push_back(fs_of(stack.parents[i].id).string());
    }
  }
  ASSIGN_OR_RETURN(std::vector<std::string> dirs, options_.backend->mount_run(request));
  if (dirs.empty()) return Error(Code::internal, "the backend mounted nothing for a run of layers");
  return dirs;
}

Result<std::vector<Mount>> Snapshotter::mounts(const std::string& key) {
  ASSIGN_OR_RETURN(const Stack stack, metadata_->stack(key));
  ASSIGN_OR_RETURN(std::vector<std::string> lowers, lower_dirs(stack));
  return mounts_of(stack, std::move(lowers));
}

Status Snapshotter::commit(const std::string& name, const std::string& key, const Labels& labels) {
  ASSIGN_OR_RETURN(const Record record, metadata_->get(key));
  Usage usage;
  if (record.info.kind == Kind::active) {
    ASSIGN_OR_RETURN(usage, disk_usage(fs_of(record.id)));
  }
  ASSIGN_OR_RETURN(const int64_t id, metadata_->commit(key, {name, labels, usage}, options_.now()));
  if (options_.backend != nullptr) options_.backend->release(std::to_string(id));
  return {};
}

Status Snapshotter::remove(const std::string& key) {
  ASSIGN_OR_RETURN(const Removed removed, metadata_->remove(key));
  if (options_.backend != nullptr && removed.kind != Kind::committed) {
    options_.backend->release(std::to_string(removed.id));
  }
  if (removed.last_of_layer) removals_->add(removed.layer, key);
  if (removed.layer.empty() && options_.removal == Removal::at_once) delete_folder(removed.id);
  return {};
}

void Snapshotter::drop_layer(const std::string& layer, const std::string& name) {
  const auto used = metadata_->layer_used(layer);
  if (options_.backend != nullptr && used.ok() && !*used) {
    options_.backend->remove_layer(layer, name);
  }
}

// The snapshot is gone whatever happens here; what is left goes at a Cleanup.
void Snapshotter::delete_folder(int64_t id) {
  if (const Status status = remove_tree(dir_of(id)); !status.ok()) {
    warn("a removed snapshot's folder is left for the next cleanup", std::to_string(id),
         status.error());
  }
}

Result<Info> Snapshotter::stat(const std::string& key) {
  ASSIGN_OR_RETURN(Record record, metadata_->get(key));
  return std::move(record.info);
}

Result<Info> Snapshotter::update(const Info& info, const std::vector<std::string>& paths) {
  return metadata_->update_labels(info, paths, options_.now());
}

Result<std::vector<Info>> Snapshotter::list(const std::vector<std::string>& filters) {
  ASSIGN_OR_RETURN(const Filter filter, Filter::parse(filters));
  ASSIGN_OR_RETURN(std::vector<Info> infos, metadata_->list());
  std::erase_if(infos, [&](const Info& info) { return !filter.matches(info); });
  return infos;
}

Result<Usage> Snapshotter::usage(const std::string& key) {
  ASSIGN_OR_RETURN(const Record record, metadata_->get(key));
  if (record.info.kind == Kind::active) return disk_usage(fs_of(record.id));
  if (!record.layer.empty() && options_.backend != nullptr) {
    return options_.backend->usage(record.layer);
  }
  return record.usage;
}

Status Snapshotter::cleanup() {
  std::vector<std::string> orphans;
  // While no snapshot can be created: a new folder is there before its row.
  RETURN_IF_ERROR(metadata_->with_ids([&](const std::vector<int64_t>& ids) -> Status {
    std::unordered_set<std::string> live;
    for (const int64_t id : ids) live.insert(std::to_string(id));
    std::error_code error;
    for (std::filesystem::directory_iterator entry(snapshots_dir_, error), end;
         !error && entry != end; entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      if (!live.contains(name)) orphans.push_back(name);
    }
    if (error) return errno_error(error.value(), "list " + snapshots_dir_.string());
    return {};
  }));
  for (const std::string& orphan : orphans) {
    if (const Status status = remove_tree(snapshots_dir_ / orphan); !status.ok()) {
      warn("a folder without a snapshot cannot be deleted", orphan, status.error());
    }
  }
  return {};
}

}  // namespace pagein::snapshotter
