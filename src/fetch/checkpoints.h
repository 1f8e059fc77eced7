// The checkpoint payloads of one layer, read ahead in one piece, so that a
// page-in costs one request and not two.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/mutex.h"
#include "fetch/origin.h"
#include "index/layer_index.h"
#include "registry/blob_source.h"

namespace pagein::fetch {

// Memory that all layers' checkpoints share. Thread-safe.
class CheckpointBudget {
 public:
  explicit CheckpointBudget(uint64_t bytes) : left_(bytes) {}
  bool take(uint64_t bytes);
  void give_back(uint64_t bytes) { left_.fetch_add(bytes); }
  uint64_t left() const { return left_.load(); }

 private:
  std::atomic<uint64_t> left_;
};

// Thread-safe; never blocks. Payloads have no digest of their own: a wrong one
// shows when the span that it starts does not verify.
class Checkpoints : public std::enable_shared_from_this<Checkpoints> {
 public:
  Checkpoints(std::shared_ptr<const index::LayerIndex> index,
              std::shared_ptr<CheckpointBudget> budget);
  ~Checkpoints();

  // Begins to read them, unless that has begun, was tried in vain, or they take
  // more memory than there is: then each flight reads what it needs itself.
  void load(const LayerOrigin& origin, net::Clock::time_point deadline);
  // The payload that the span starts from, if it has come; empty for none.
  std::optional<Bytes> find(size_t span) const;
  // Ends the reading and forgets what came: the layer is complete, or a payload
  // was not right. Nothing is loaded any more.
  void drop();
  // The same, and its source is told so.
  void distrust();

 private:
  class Sink;
  void on_data(ByteView bytes);
  void release() REQUIRES(mutex_);

  const std::shared_ptr<const index::LayerIndex> index_;
  const std::shared_ptr<CheckpointBudget> budget_;

  mutable Mutex mutex_;
  bool begun_ GUARDED_BY(mutex_) = false;
  bool dropped_ GUARDED_BY(mutex_) = false;
  uint64_t taken_ GUARDED_BY(mutex_) = 0;                            // of the budget
  Bytes bytes_ GUARDED_BY(mutex_);                                   // from the section's start on
  std::shared_ptr<registry::BlobSource> source_ GUARDED_BY(mutex_);  // from the read on
  registry::ReadId read_ GUARDED_BY(mutex_) = 0;
};

}  // namespace pagein::fetch
