#include "snapshotter/sqlite.h"

#include <sqlite3.h>

namespace pagein::snapshotter {

namespace {
constexpr int kBusyMilliseconds = 5000;

Code code_of(int extended) {
  switch (extended) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY: return Code::already_exists;
    default: break;
  }
  switch (extended & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return Code::corrupt_input;
    case SQLITE_FULL:
    case SQLITE_NOMEM: return Code::exhausted;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return Code::unavailable;
    default: return Code::internal;
  }
}

Error sqlite_error(sqlite3* handle, std::string_view doing) {
  return Error(code_of(sqlite3_extended_errcode(handle)),
               "snapshot database: " + std::string(doing) + ": " + sqlite3_errmsg(handle));
}
}  // namespace

Query::~Query() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

Query& Query::bind(int64_t value) {
  sqlite3_bind_int64(statement_, next_++, value);
  return *this;
}

Query& Query::bind(std::string_view value) {
  // A null pointer would bind NULL.
  sqlite3_bind_text64(statement_, next_++, value.data() == nullptr ? "" : value.data(),
                      value.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  return *this;
}

Query& Query::bind_null() {
  sqlite3_bind_null(statement_, next_++);
  return *this;
}

Result<bool> Query::step() {
  switch (sqlite3_step(statement_)) {
    case SQLITE_ROW: return true;
    case SQLITE_DONE: return false;
    default: return sqlite_error(sqlite3_db_handle(statement_), sqlite3_sql(statement_));
  }
}

Status Query::run() {
  ASSIGN_OR_RETURN([[maybe_unused]] bool row, step());
  return {};
}

int64_t Query::integer(int column) const { return sqlite3_column_int64(statement_, column); }

std::string Query::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  if (data == nullptr) return {};
  return std::string(data, static_cast<size_t>(sqlite3_column_bytes(statement_, column)));
}

bool Query::is_null(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

Result<std::unique_ptr<Database>> Database::open(const std::filesystem::path& file) {
  sqlite3* handle = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int result = sqlite3_open_v2(file.c_str(), &handle, flags, nullptr);
  if (handle == nullptr) return Error(Code::exhausted, "snapshot database: out of memory");
  std::unique_ptr<Database> database(new Database(handle));
  if (result != SQLITE_OK) return sqlite_error(handle, "opening " + file.string());
  sqlite3_busy_timeout(handle, kBusyMilliseconds);
  return database;
}

Database::~Database() {
  for (auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close_v2(handle_);
}

Status Database::exec(const char* sql) {
  if (sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
    return sqlite_error(handle_, sql);
  }
  return {};
}

Result<Query> Database::query(const char* sql) {
  sqlite3_stmt*& statement = statements_[sql];
  if (statement == nullptr && sqlite3_prepare_v3(handle_, sql, -1, SQLITE_PREPARE_PERSISTENT,
                                                 &statement, nullptr) != SQLITE_OK) {
    statements_.erase(sql);
    return sqlite_error(handle_, sql);
  }
  return Query(statement);
}

int64_t Database::last_id() const { return sqlite3_last_insert_rowid(handle_); }
int64_t Database::changes() const { return sqlite3_changes64(handle_); }

Result<Transaction> Transaction::begin(Database& database) {
  RETURN_IF_ERROR(database.exec("BEGIN IMMEDIATE"));
  return Transaction(database);
}

Transaction::~Transaction() {
  // SQLite has rolled back by itself after some errors; then this one fails.
  if (database_ != nullptr) (void)database_->exec("ROLLBACK").ok();
}

Status Transaction::commit() {
  RETURN_IF_ERROR(database_->exec("COMMIT"));
  database_ = nullptr;
  return {};
}

}  // namespace pagein::snapshotter
