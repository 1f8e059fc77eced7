// The threads that compress, shared by all layers of a conversion.
#pragma once

#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "codec/chunk_encoder.h"
#include "convert/chunk_line.h"

namespace pagein::convert {

// Each thread owns an encoder per encoding. First come, first served; bounded by
// the chunks that the lines let exist. Thread-safe.
class EncodePool {
 public:
  // At most kMaxTargets encodings; invalid_argument as make_chunk_encoder().
  static Result<std::unique_ptr<EncodePool>> make(
      const std::vector<codec::ChunkEncoderOptions>& encodings, size_t threads);
  // All submitted chunks must have been taken from their lines.
  ~EncodePool();
  EncodePool(const EncodePool&) = delete;
  EncodePool& operator=(const EncodePool&) = delete;

  // Submits the chunk to the line, encodes it soon, and marks it as done. The
  // line must live until then.
  void submit(ChunkLine* line, Chunk* chunk);

  // Of each encoding, as ChunkEncoder has them.
  const std::vector<std::string>& settings() const { return settings_; }

 private:
  using Encoders = std::vector<std::unique_ptr<codec::ChunkEncoder>>;
  struct Job {
    ChunkLine* line;
    Chunk* chunk;
  };
  EncodePool() = default;
  void work(Encoders& encoders);

  std::vector<std::string> settings_;
  std::vector<std::thread> threads_;
  Mutex mutex_;
  CondVar wake_;
  std::deque<Job> jobs_ GUARDED_BY(mutex_);
  bool stop_ GUARDED_BY(mutex_) = false;
};

// What a chunk is after encoding: also for who has no pool.
void encode_chunk(const std::vector<std::unique_ptr<codec::ChunkEncoder>>& encoders, Chunk* chunk);

}  // namespace pagein::convert
