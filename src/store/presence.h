// Which spans of a layer are in the store: a bitmap in memory, and its durable
// copy on disk (docs/formats/store.md, "present").
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace pagein::store {

// Thread-safe: bits are atomic, set once and cleared only by drop(). Does not
// block except in load() and save().
class Presence {
 public:
  explicit Presence(size_t spans);

  size_t size() const { return spans_; }
  bool test(size_t span) const {
    return words_[span / 64].load(std::memory_order_acquire) >> (span % 64) & 1;
  }
  void set(size_t span);
  void drop(size_t span);
  size_t count() const { return count_.load(std::memory_order_relaxed); }
  bool full() const { return count() == spans_; }
  // The first span in [from, end) that is not set; end if all are.
  size_t first_missing(size_t from, size_t end) const;

  // A copy for save(): what was set when the data was synced.
  std::vector<uint64_t> snapshot() const;

  enum class Stop { unclean, clean };
  // Replaces the file at `path`.
  static Status save(const std::filesystem::path& path, size_t spans,
                     const std::vector<uint64_t>& words, Stop stop);
  // corrupt_input if the file is not what save() wrote for that many spans; then
  // nothing has changed.
  Result<Stop> load(const std::filesystem::path& path);
  // The same of the file's bytes; `name` is for messages.
  Result<Stop> parse(ByteView file, std::string_view name);

 private:
  size_t spans_;
  std::vector<std::atomic<uint64_t>> words_;
  std::atomic<size_t> count_{0};
};

}  // namespace pagein::store
