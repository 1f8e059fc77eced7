// Snapshots of ordinary and remote layers: the logic behind containerd's
// snapshots service, without gRPC.
//
// Ordinary layers behave as containerd's overlayfs snapshotter treats them: a
// folder ROOT/snapshots/<id>/{fs,work} each. Remote layers have a row in the
// database and a reference that a RemoteBackend understands.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "snapshotter/mounts.h"
#include "snapshotter/remote_backend.h"
#include "snapshotter/types.h"

namespace pagein::snapshotter {

class Metadata;
class RemovalQueue;
struct NewSnapshot;
struct Stack;

// When a removed snapshot's folder is deleted.
enum class Removal {
  at_once,     // before Remove returns, as containerd's default
  on_cleanup,  // by the next Cleanup call (containerd's collector makes one)
};

struct SnapshotterOptions {
  std::filesystem::path root;        // created, mode 0700
  RemoteBackend* backend = nullptr;  // not owned; null: every layer is ordinary
  Removal removal = Removal::at_once;
  std::function<Time()> now;  // default: the system clock
};

struct ReattachReport {
  size_t attached = 0;              // snapshots whose runs are mounted
  std::vector<std::string> failed;  // "key: why", for the log
};

// Invariants, named by the tests:
//  I1  A folder below ROOT/snapshots without a row is an orphan and goes at
//      the next start or Cleanup; a row of an ordinary snapshot has its folder
//      (it is made before the row is committed).
//  I2  An id is never used twice.
//  I3  At most one remote snapshot exists for a (snapshot.ref, parent).
//  I4  Every holder that the backend knows is an active or view snapshot.
//  I5  Mounts() of one snapshot answers the same until it is removed.
//
// Thread-safe. All calls may block: on disk, and where a remote layer is
// concerned on the backend. Errors are containerd's: already_exists,
// not_found, failed_precondition (wrong kind, has children),
// invalid_argument, else internal or what the backend said.
class Snapshotter {
 public:
  // Opens or makes the database, and deletes orphan folders.
  static Result<std::unique_ptr<Snapshotter>> open(SnapshotterOptions options);
  ~Snapshotter();

  // Mounts the runs of all active and view snapshots again; once, after
  // open() and before the service answers. Failures do not stop it: Mounts()
  // tries again.
  ReattachReport reattach();

  // A writable snapshot. With the label containerd.io/snapshot.ref the layer
  // is first offered to the backend; already_exists then means: a committed
  // snapshot with that label and parent is there, nothing to download.
  Result<std::vector<Mount>> prepare(const std::string& key, const std::string& parent,
                                     const Labels& labels);
  // A read-only snapshot.
  Result<std::vector<Mount>> view(const std::string& key, const std::string& parent,
                                  const Labels& labels);
  Result<std::vector<Mount>> mounts(const std::string& key);
  // Labels replace those of the active snapshot.
  Status commit(const std::string& name, const std::string& key, const Labels& labels);
  Status remove(const std::string& key);
  Result<Info> stat(const std::string& key);
  // Only labels can change. Paths: "labels" or "labels.KEY"; none means
  // "labels"; others are invalid_argument. Answers the new state.
  Result<Info> update(const Info& info, const std::vector<std::string>& paths);
  // Snapshots that match any of the filters (containerd's filter syntax; no
  // filter: all), ordered by name.
  Result<std::vector<Info>> list(const std::vector<std::string>& filters);
  Result<Usage> usage(const std::string& key);
  // Deletes folders without a snapshot.
  Status cleanup();

 private:
  Snapshotter(SnapshotterOptions options, std::unique_ptr<Metadata> metadata,
              OverlayFeatures features);

  Result<bool> offer_to_backend(const std::string& parent, const Labels& labels);
  Result<std::vector<Mount>> create(const NewSnapshot& snapshot);
  Status make_folders(const Stack& stack);
  Result<std::vector<Mount>> mount_new(const Stack& stack);
  Status inherit_root(const Stack& stack, const std::string& parent);
  Status attach(const Stack& stack);
  Result<std::vector<std::string>> lower_dirs(const Stack& stack);
  Result<std::vector<std::string>> mount_run(const Stack& stack, size_t top, size_t end);
  std::vector<Mount> mounts_of(const Stack& stack, std::vector<std::string> lowers);
  void drop_layer(const std::string& layer, const std::string& name);
  void delete_folder(int64_t id);
  std::filesystem::path dir_of(int64_t id) const;
  std::filesystem::path fs_of(int64_t id) const;
  static bool has_remote(const Stack& stack);

  SnapshotterOptions options_;
  std::filesystem::path snapshots_dir_;
  std::unique_ptr<Metadata> metadata_;
  OverlayFeatures features_;
  std::unique_ptr<RemovalQueue> removals_;
};

}  // namespace pagein::snapshotter
