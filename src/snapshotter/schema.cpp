#include "snapshotter/schema.h"

#include <chrono>
#include <string>

#include "base/log.h"

namespace pagein::snapshotter {

namespace {

// exclusive: two daemons on one root would corrupt each other's folders, and
// no shared-memory file is needed.
constexpr char kSettings[] =
    "PRAGMA locking_mode = EXCLUSIVE;"
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = FULL;"
    "PRAGMA foreign_keys = ON;"
    "PRAGMA trusted_schema = OFF;";

constexpr int64_t kVersion = 1;

// Version 1. AUTOINCREMENT: an id is a folder's name and a backend's holder,
// so it is never given twice. parent < id: no cycles.
constexpr char kSchema[] = R"(
BEGIN IMMEDIATE;
CREATE TABLE snapshots (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  name    TEXT NOT NULL UNIQUE,
  parent  INTEGER REFERENCES snapshots(id) CHECK (parent < id),
  kind    INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3),
  created INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  size    INTEGER NOT NULL DEFAULT 0,
  inodes  INTEGER NOT NULL DEFAULT 0,
  ref     TEXT NOT NULL DEFAULT '',
  layer   TEXT NOT NULL DEFAULT ''
);
CREATE INDEX snapshots_parent ON snapshots(parent);
CREATE INDEX snapshots_layer ON snapshots(layer) WHERE layer <> '';
CREATE UNIQUE INDEX snapshots_remote ON snapshots(ref, coalesce(parent, 0)) WHERE layer <> '';
CREATE TABLE labels (
  snapshot INTEGER NOT NULL REFERENCES snapshots(id) ON DELETE CASCADE,
  key      TEXT NOT NULL,
  value    TEXT NOT NULL,
  PRIMARY KEY (snapshot, key)
) WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;
)";

Result<int64_t> version_of(Database& database) {
  ASSIGN_OR_RETURN(Query query, database.query("PRAGMA user_version"));
  ASSIGN_OR_RETURN([[maybe_unused]] const bool row, query.step());
  return query.integer(0);
}

Status check_pages(Database& database) {
  ASSIGN_OR_RETURN(Query query, database.query("PRAGMA quick_check(1)"));
  ASSIGN_OR_RETURN([[maybe_unused]] const bool row, query.step());
  const std::string verdict = query.text(0);
  if (verdict == "ok") return {};
  return Error(Code::corrupt_input, "snapshot database: " + verdict);
}

Result<std::unique_ptr<Database>> open_checked(const std::filesystem::path& file) {
  ASSIGN_OR_RETURN(auto database, Database::open(file));
  RETURN_IF_ERROR(database->exec(kSettings));
  RETURN_IF_ERROR(check_pages(*database));
  ASSIGN_OR_RETURN(const int64_t version, version_of(*database));
  if (version > kVersion) {
    return Error(Code::unsupported, "snapshot database " + file.string() + " has version " +
                                        std::to_string(version) + ", this program knows " +
                                        std::to_string(kVersion) + ": use the newer program");
  }
  if (version == 0) RETURN_IF_ERROR(database->exec(kSchema));
  return database;
}

Status move_aside(const std::filesystem::path& file, const Error& why) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::system_clock::now().time_since_epoch());
  const std::string suffix = ".corrupt-" + std::to_string(seconds.count());
  for (const char* part : {"", "-wal", "-shm"}) {
    std::error_code error;
    const std::string from = file.string() + part;
    std::filesystem::rename(from, file.string() + suffix + part, error);
    if (error && error != std::errc::no_such_file_or_directory) {
      return errno_error(error.value(), "moving damaged database " + from + " aside");
    }
  }
  log::error(
      "the snapshot database is damaged: moved aside, starting with an empty one; "
      "containers and images of this snapshotter must be removed and pulled again",
      {{"moved_to", file.string() + suffix}, {"reason", why.message}});
  return {};
}

}  // namespace

Result<std::unique_ptr<Database>> open_or_replace(const std::filesystem::path& file,
                                                  Opened& opened) {
  std::error_code ignored;
  opened = std::filesystem::exists(file, ignored) ? Opened::existing : Opened::created;
  auto database = open_checked(file);
  if (database.ok() || database.error().code != Code::corrupt_input) return database;
  RETURN_IF_ERROR(move_aside(file, database.error()));
  opened = Opened::replaced;
  return open_checked(file);
}

}  // namespace pagein::snapshotter
