// A thin owner of an SQLite connection and its statements: no exceptions,
// errors as Error. Inside this folder only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace pagein::snapshotter {

// A running use of a prepared statement; resets it in the destructor, so one
// text is used once at a time. Text is bound by copy.
class Query {
 public:
  explicit Query(sqlite3_stmt* statement) : statement_(statement) {}
  Query(Query&& other) noexcept : statement_(std::exchange(other.statement_, nullptr)) {}
  Query& operator=(Query&&) = delete;
  ~Query();

  Query& bind(int64_t value);
  Query& bind(std::string_view value);
  Query& bind_null();
  // Whether there is a (next) row.
  Result<bool> step();
  // For statements without rows.
  Status run();

  int64_t integer(int column) const;
  std::string text(int column) const;
  bool is_null(int column) const;

 private:
  sqlite3_stmt* statement_;
  int next_ = 1;
};

// One connection. Thread-compatible: the owner serializes. Errors:
// already_exists (a UNIQUE constraint), corrupt_input (damaged, or not a
// database), exhausted (disk full, memory), unavailable (locked by another
// process), internal.
class Database {
 public:
  // Opens or creates; waits up to five seconds for another process's lock.
  static Result<std::unique_ptr<Database>> open(const std::filesystem::path& file);
  ~Database();

  Status exec(const char* sql);
  // `sql` must be a literal: prepared once, kept.
  Result<Query> query(const char* sql);
  int64_t last_id() const;
  int64_t changes() const;

 private:
  explicit Database(sqlite3* handle) : handle_(handle) {}
  sqlite3* handle_;
  std::map<const char*, sqlite3_stmt*> statements_;
};

// BEGIN IMMEDIATE … COMMIT; the destructor rolls back what was not committed.
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Status commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

}  // namespace pagein::snapshotter
