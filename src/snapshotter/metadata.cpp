#include "snapshotter/metadata.h"

#include <unordered_map>

#include "base/mutex.h"
#include "snapshotter/schema.h"
#include "snapshotter/sqlite.h"

namespace pagein::snapshotter {

namespace {

struct Row {
  int64_t id = 0;
  int64_t parent_id = 0;  // 0: none
  std::string ref;        // of a remote snapshot
  Record record;
};

Time time_of(int64_t nanoseconds) { return Time(std::chrono::nanoseconds(nanoseconds)); }
int64_t stored(Time time) { return time.time_since_epoch().count(); }

Error no_such(const std::string& key) {
  return Error(Code::not_found, "snapshot \"" + key + "\" does not exist");
}

constexpr char kSelectOne[] =
    "SELECT s.id, s.name, s.kind, s.created, s.updated, s.size, s.inodes, s.layer, s.ref,"
    " s.parent, p.name FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent"
    " WHERE s.name = ?";
constexpr char kSelectAll[] =
    "SELECT s.id, s.name, s.kind, s.created, s.updated, s.size, s.inodes, s.layer, s.ref,"
    " s.parent, p.name FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent"
    " ORDER BY s.name";

// The columns of the two above.
Row read_row(const Query& query) {
  Row row;
  row.id = query.integer(0);
  Record& record = row.record;
  record.id = row.id;
  record.info.name = query.text(1);
  record.info.kind = static_cast<Kind>(query.integer(2));
  record.info.created = time_of(query.integer(3));
  record.info.updated = time_of(query.integer(4));
  record.usage.size = static_cast<uint64_t>(query.integer(5));
  record.usage.inodes = static_cast<uint64_t>(query.integer(6));
  record.layer = query.text(7);
  row.ref = query.text(8);
  row.parent_id = query.integer(9);  // NULL reads as 0
  record.info.parent = query.text(10);
  return row;
}

// A remote snapshot keeps the label by which containerd finds it, whatever
// an Update says.
void add_ref(const Row& row, Labels& labels) {
  if (!row.ref.empty()) labels[kSnapshotRefLabel] = row.ref;
}

}  // namespace

// All methods want the mutex held.
class Metadata::Impl {
 public:
  explicit Impl(std::unique_ptr<Database> database) : db(std::move(database)) {}

  Result<Row> find(const std::string& key) {
    ASSIGN_OR_RETURN(Query query, db->query(kSelectOne));
    ASSIGN_OR_RETURN(const bool found, query.bind(key).step());
    if (!found) return no_such(key);
    Row row = read_row(query);
    ASSIGN_OR_RETURN(row.record.info.labels, labels_of(row.id));
    add_ref(row, row.record.info.labels);
    return row;
  }

  Result<bool> exists(const std::string& key) {
    ASSIGN_OR_RETURN(Query query, db->query("SELECT 1 FROM snapshots WHERE name = ?"));
    return query.bind(key).step();
  }

  Result<Labels> labels_of(int64_t id) {
    ASSIGN_OR_RETURN(Query query, db->query("SELECT key, value FROM labels WHERE snapshot = ?"));
    query.bind(id);
    Labels labels;
    for (;;) {
      ASSIGN_OR_RETURN(const bool row, query.step());
      if (!row) return labels;
      labels.emplace(query.text(0), query.text(1));
    }
  }

  Status write_labels(int64_t id, const Labels& labels) {
    {
      ASSIGN_OR_RETURN(Query erase, db->query("DELETE FROM labels WHERE snapshot = ?"));
      RETURN_IF_ERROR(erase.bind(id).run());
    }
    for (const auto& [key, value] : labels) {
      if (value.empty()) continue;  // as containerd: setting "" removes
      ASSIGN_OR_RETURN(Query insert,
                       db->query("INSERT INTO labels(snapshot, key, value) VALUES (?, ?, ?)"));
      RETURN_IF_ERROR(insert.bind(id).bind(key).bind(value).run());
    }
    return {};
  }

  // The id of a parent for a new snapshot; 0 for "".
  Result<int64_t> parent_id(const std::string& parent) {
    if (parent.empty()) return int64_t{0};
    ASSIGN_OR_RETURN(Query query, db->query("SELECT id, kind FROM snapshots WHERE name = ?"));
    ASSIGN_OR_RETURN(const bool found, query.bind(parent).step());
    if (!found) {
      return Error(Code::not_found, "parent snapshot \"" + parent + "\" does not exist");
    }
    if (static_cast<Kind>(query.integer(1)) != Kind::committed) {
      return Error(Code::invalid_argument, "parent \"" + parent + "\" is not committed");
    }
    return query.integer(0);
  }

  // From `id` down, topmost first. It ends: a parent's id is lower than its
  // child's (a CHECK of the table).
  Result<std::vector<ChainLayer>> chain(int64_t id) {
    std::vector<ChainLayer> layers;
    while (id != 0) {
      ASSIGN_OR_RETURN(Query query, db->query("SELECT parent, layer FROM snapshots WHERE id = ?"));
      ASSIGN_OR_RETURN(const bool found, query.bind(id).step());
      if (!found) return Error(Code::internal, "snapshot database: a parent is missing");
      layers.push_back({id, query.text(1)});
      id = query.integer(0);
    }
    return layers;
  }

  struct Insert {
    std::string name;
    int64_t parent = 0;
    Kind kind = Kind::active;
    Time now{};
    std::string ref;
    std::string layer;
  };
  Result<int64_t> insert(const Insert& row, const Labels& labels) {
    {
      ASSIGN_OR_RETURN(Query query,
                       db->query("INSERT INTO snapshots(name, parent, kind, created,"
                                 " updated, ref, layer) VALUES (?, ?, ?, ?, ?, ?, ?)"));
      query.bind(row.name);
      row.parent != 0 ? query.bind(row.parent) : query.bind_null();
      query.bind(static_cast<int64_t>(row.kind)).bind(stored(row.now)).bind(stored(row.now));
      RETURN_IF_ERROR(query.bind(row.ref).bind(row.layer).run());
    }
    const int64_t id = db->last_id();
    RETURN_IF_ERROR(write_labels(id, labels));
    return id;
  }

  Result<bool> find_remote(const std::string& ref, int64_t parent) {
    ASSIGN_OR_RETURN(Query query, db->query("SELECT 1 FROM snapshots WHERE ref = ? AND"
                                            " coalesce(parent, 0) = ? AND layer <> ''"));
    return query.bind(ref).bind(parent).step();
  }

  Result<bool> has_child(int64_t id) {
    ASSIGN_OR_RETURN(Query query, db->query("SELECT 1 FROM snapshots WHERE parent = ? LIMIT 1"));
    return query.bind(id).step();
  }

  Result<bool> layer_used(const std::string& layer) {
    ASSIGN_OR_RETURN(Query query, db->query("SELECT 1 FROM snapshots WHERE layer = ? LIMIT 1"));
    return query.bind(layer).step();
  }

  Result<std::vector<int64_t>> ids() {
    ASSIGN_OR_RETURN(Query query, db->query("SELECT id FROM snapshots"));
    std::vector<int64_t> ids;
    for (;;) {
      ASSIGN_OR_RETURN(const bool row, query.step());
      if (!row) return ids;
      ids.push_back(query.integer(0));
    }
  }

  Mutex mutex;
  std::unique_ptr<Database> db;
};

Metadata::Metadata(std::unique_ptr<Impl> impl, Opened opened)
    : impl_(std::move(impl)), opened_(opened) {}
Metadata::~Metadata() = default;

Result<std::unique_ptr<Metadata>> Metadata::open(const std::filesystem::path& file) {
  Opened opened = Opened::existing;
  ASSIGN_OR_RETURN(auto database, open_or_replace(file, opened));
  return std::unique_ptr<Metadata>(
      new Metadata(std::make_unique<Impl>(std::move(database)), opened));
}

Result<Stack> Metadata::create(const NewSnapshot& snapshot, Time now, const InTransaction& in) {
  MutexLock lock(impl_->mutex);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::begin(*impl_->db));
  ASSIGN_OR_RETURN(const int64_t parent, impl_->parent_id(snapshot.parent));
  ASSIGN_OR_RETURN(const bool taken, impl_->exists(snapshot.key));
  if (taken) {
    return Error(Code::already_exists, "snapshot \"" + snapshot.key + "\" exists");
  }
  Stack stack;
  stack.kind = snapshot.kind;
  ASSIGN_OR_RETURN(stack.parents, impl_->chain(parent));
  ASSIGN_OR_RETURN(
      stack.id,
      impl_->insert({.name = snapshot.key, .parent = parent, .kind = snapshot.kind, .now = now},
                    snapshot.labels));
  RETURN_IF_ERROR(in(stack));
  RETURN_IF_ERROR(transaction.commit());
  return stack;
}

Status Metadata::create_remote(const NewRemoteSnapshot& snapshot, Time now) {
  MutexLock lock(impl_->mutex);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::begin(*impl_->db));
  ASSIGN_OR_RETURN(const int64_t parent, impl_->parent_id(snapshot.parent));
  ASSIGN_OR_RETURN(const bool there, impl_->find_remote(snapshot.snapshot_ref, parent));
  if (there) {
    return Error(Code::already_exists, "remote snapshot \"" + snapshot.snapshot_ref + "\" exists");
  }
  Impl::Insert row{.name = snapshot.snapshot_ref,
                   .parent = parent,
                   .kind = Kind::committed,
                   .now = now,
                   .ref = snapshot.snapshot_ref,
                   .layer = snapshot.layer};
  // The same chain may stand on another parent: each containerd namespace
  // gives its own name to an ordinary layer below. containerd finds ours by
  // label and parent, so any name will do.
  ASSIGN_OR_RETURN(const bool taken, impl_->exists(row.name));
  if (taken) row.name += "@" + std::to_string(parent);
  ASSIGN_OR_RETURN([[maybe_unused]] const int64_t id, impl_->insert(row, snapshot.labels));
  return transaction.commit();
}

Result<bool> Metadata::has_remote(const std::string& ref, const std::string& parent) {
  MutexLock lock(impl_->mutex);
  ASSIGN_OR_RETURN(const int64_t parent_id, impl_->parent_id(parent));
  return impl_->find_remote(ref, parent_id);
}

Result<bool> Metadata::layer_used(const std::string& layer) {
  MutexLock lock(impl_->mutex);
  return impl_->layer_used(layer);
}

Result<int64_t> Metadata::commit(const std::string& key, const Committed& committed, Time now) {
  MutexLock lock(impl_->mutex);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::begin(*impl_->db));
  ASSIGN_OR_RETURN(const bool taken, impl_->exists(committed.name));
  if (taken) {
    return Error(Code::already_exists, "committed snapshot \"" + committed.name + "\" exists");
  }
  ASSIGN_OR_RETURN(const Row row, impl_->find(key));
  if (row.record.info.kind != Kind::active) {
    return Error(Code::failed_precondition, "snapshot \"" + key + "\" is not active");
  }
  {
    ASSIGN_OR_RETURN(Query query,
                     impl_->db->query("UPDATE snapshots SET name = ?, kind = ?, created = ?,"
                                      " updated = ?, size = ?, inodes = ? WHERE id = ?"));
    query.bind(committed.name).bind(static_cast<int64_t>(Kind::committed));
    query.bind(stored(now)).bind(stored(now)).bind(static_cast<int64_t>(committed.usage.size));
    RETURN_IF_ERROR(query.bind(static_cast<int64_t>(committed.usage.inodes)).bind(row.id).run());
  }
  RETURN_IF_ERROR(impl_->write_labels(row.id, committed.labels));
  RETURN_IF_ERROR(transaction.commit());
  return row.id;
}

Result<Removed> Metadata::remove(const std::string& key) {
  MutexLock lock(impl_->mutex);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::begin(*impl_->db));
  ASSIGN_OR_RETURN(const Row row, impl_->find(key));
  ASSIGN_OR_RETURN(const bool parent, impl_->has_child(row.id));
  if (parent) {
    return Error(Code::failed_precondition,
                 "cannot remove snapshot \"" + key + "\": others stand on it");
  }
  {
    ASSIGN_OR_RETURN(Query query, impl_->db->query("DELETE FROM snapshots WHERE id = ?"));
    RETURN_IF_ERROR(query.bind(row.id).run());
  }
  Removed removed{row.id, row.record.info.kind, row.record.layer, false};
  if (!removed.layer.empty()) {
    ASSIGN_OR_RETURN(const bool used, impl_->layer_used(removed.layer));
    removed.last_of_layer = !used;
  }
  RETURN_IF_ERROR(transaction.commit());
  return removed;
}

Result<Record> Metadata::get(const std::string& key) {
  MutexLock lock(impl_->mutex);
  ASSIGN_OR_RETURN(Row row, impl_->find(key));
  return std::move(row.record);
}

namespace {
// The labels after an update with these field paths.
Result<Labels> updated_labels(const Info& old, const Info& wanted,
                              const std::vector<std::string>& paths) {
  constexpr std::string_view kPrefix = "labels.";
  if (paths.empty()) return wanted.labels;
  Labels labels = old.labels;
  for (const std::string& path : paths) {
    if (path == "labels") {
      labels = wanted.labels;
    } else if (path.starts_with(kPrefix)) {
      const std::string key = path.substr(kPrefix.size());
      const auto value = wanted.labels.find(key);
      labels[key] = value == wanted.labels.end() ? "" : value->second;
    } else {
      return Error(Code::invalid_argument, "cannot update field \"" + path + "\" of snapshot \"" +
                                               old.name + "\": only labels can change");
    }
  }
  return labels;
}
}  // namespace

Result<Info> Metadata::update_labels(const Info& info, const std::vector<std::string>& paths,
                                     Time now) {
  MutexLock lock(impl_->mutex);
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::begin(*impl_->db));
  ASSIGN_OR_RETURN(Row row, impl_->find(info.name));
  Info& updated = row.record.info;
  ASSIGN_OR_RETURN(updated.labels, updated_labels(updated, info, paths));
  std::erase_if(updated.labels, [](const auto& label) { return label.second.empty(); });
  RETURN_IF_ERROR(impl_->write_labels(row.id, updated.labels));
  {
    ASSIGN_OR_RETURN(Query query,
                     impl_->db->query("UPDATE snapshots SET updated = ? WHERE id = ?"));
    RETURN_IF_ERROR(query.bind(stored(now)).bind(row.id).run());
  }
  RETURN_IF_ERROR(transaction.commit());
  updated.updated = now;
  add_ref(row, updated.labels);
  return std::move(updated);
}

Result<Stack> Metadata::stack(const std::string& key) {
  MutexLock lock(impl_->mutex);
  ASSIGN_OR_RETURN(const Row row, impl_->find(key));
  if (row.record.info.kind == Kind::committed) {
    return Error(Code::failed_precondition,
                 "snapshot \"" + key + "\" is committed: it has no mounts");
  }
  Stack stack{row.id, row.record.info.kind, {}};
  ASSIGN_OR_RETURN(stack.parents, impl_->chain(row.parent_id));
  return stack;
}

Result<std::vector<Info>> Metadata::list() {
  MutexLock lock(impl_->mutex);
  std::unordered_map<int64_t, Labels> labels;
  {
    ASSIGN_OR_RETURN(Query query, impl_->db->query("SELECT snapshot, key, value FROM labels"));
    for (;;) {
      ASSIGN_OR_RETURN(const bool row, query.step());
      if (!row) break;
      labels[query.integer(0)].emplace(query.text(1), query.text(2));
    }
  }
  ASSIGN_OR_RETURN(Query query, impl_->db->query(kSelectAll));
  std::vector<Info> infos;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, query.step());
    if (!more) return infos;
    Row row = read_row(query);
    row.record.info.labels = std::move(labels[row.id]);
    add_ref(row, row.record.info.labels);
    infos.push_back(std::move(row.record.info));
  }
}

Result<std::vector<std::string>> Metadata::layers() {
  MutexLock lock(impl_->mutex);
  ASSIGN_OR_RETURN(Query query,
                   impl_->db->query("SELECT DISTINCT layer FROM snapshots WHERE layer <> ''"));
  std::vector<std::string> layers;
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, query.step());
    if (!row) return layers;
    layers.push_back(query.text(0));
  }
}

Status Metadata::with_ids(const std::function<Status(const std::vector<int64_t>&)>& fn) {
  MutexLock lock(impl_->mutex);
  ASSIGN_OR_RETURN(const std::vector<int64_t> ids, impl_->ids());
  return fn(ids);
}

}  // namespace pagein::snapshotter
