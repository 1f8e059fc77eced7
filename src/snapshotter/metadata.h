// The snapshotter's database: which snapshots there are and how they hang
// together (SQLite in ROOT/metadata.db).
//
// The rules are those of containerd's own metastore (containerd
// snapshots/storage): a parent is committed; Commit renames key to name and
// keeps the id; nothing with children goes. Every commit is synced to disk
// (synchronous=FULL): containerd syncs its own record of the same snapshot,
// and after a power cut a name that it knows and we do not could never be
// prepared again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "snapshotter/types.h"

namespace pagein::snapshotter {

// One layer of a chain.
struct ChainLayer {
  int64_t id = 0;
  std::string layer;  // backend's reference; empty: ordinary
  bool remote() const { return !layer.empty(); }
};

// A snapshot and what it stands on.
struct Stack {
  int64_t id = 0;
  Kind kind = Kind::active;
  std::vector<ChainLayer> parents;  // topmost first
};

struct NewSnapshot {
  Kind kind = Kind::active;
  std::string key;
  std::string parent;
  Labels labels;
};

struct NewRemoteSnapshot {
  std::string snapshot_ref;
  std::string parent;
  Labels labels;
  std::string layer;
};

struct Committed {
  std::string name;
  Labels labels;
  Usage usage;
};

struct Record {
  int64_t id = 0;
  Info info;
  Usage usage;  // of a committed snapshot
  std::string layer;
};

struct Removed {
  int64_t id = 0;
  Kind kind = Kind::active;
  std::string layer;
  bool last_of_layer = false;  // no other snapshot has this layer reference
};

// How the database was found at open().
enum class Opened {
  existing,
  created,
  replaced,  // it was corrupt and has been moved aside; this one is empty
};

// Thread-safe: one connection behind one mutex. Calls block on disk.
// Errors: not_found, already_exists, failed_precondition, invalid_argument as
// the functions say; exhausted (disk full); internal for SQLite's other ones.
class Metadata {
 public:
  // A folder for a new snapshot is made inside its transaction, so that
  // neither is there without the other; an error rolls back.
  using InTransaction = std::function<Status(const Stack&)>;

  // Opens or makes the database. A corrupt one (quick_check, or not SQLite at
  // all) is renamed to metadata.db.corrupt-<seconds> and an empty one made; a
  // newer schema is unsupported.
  static Result<std::unique_ptr<Metadata>> open(const std::filesystem::path& file);
  ~Metadata();

  Opened opened() const { return opened_; }

  // not_found: no such parent; invalid_argument: the parent is not committed;
  // already_exists: the key is taken.
  Result<Stack> create(const NewSnapshot& snapshot, Time now, const InTransaction& in);
  // A committed snapshot of a remote layer. Its name is the ref, or, where
  // that is taken by one with another parent, a name derived from it.
  // already_exists: one with this ref and parent is there.
  Status create_remote(const NewRemoteSnapshot& snapshot, Time now);
  Result<bool> has_remote(const std::string& ref, const std::string& parent);

  // not_found: no such key; already_exists: the name is taken;
  // failed_precondition: not active. Answers the id.
  Result<int64_t> commit(const std::string& key, const Committed& committed, Time now);
  // failed_precondition: it has children.
  Result<Removed> remove(const std::string& key);
  Result<Record> get(const std::string& key);
  Result<Info> update_labels(const Info& info, const std::vector<std::string>& paths, Time now);
  // Of an active or view snapshot (else failed_precondition).
  Result<Stack> stack(const std::string& key);
  // Ordered by name (bytewise).
  Result<std::vector<Info>> list();
  // Layer references of remote snapshots, each once.
  Result<std::vector<std::string>> layers();
  Result<bool> layer_used(const std::string& layer);

  // Calls `fn` with every id while no snapshot can be created or removed.
  Status with_ids(const std::function<Status(const std::vector<int64_t>&)>& fn);

 private:
  class Impl;
  Metadata(std::unique_ptr<Impl> impl, Opened opened);
  std::unique_ptr<Impl> impl_;
  Opened opened_;
};

}  // namespace pagein::snapshotter
