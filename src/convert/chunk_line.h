// The chunks of one layer on their way: cut in order, encoded by many threads,
// written in order.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "base/file.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/sha256.h"

namespace pagein::convert {

// How many encodings one pass over a layer can make.
inline constexpr size_t kMaxTargets = 2;

struct Chunk {
  uint64_t begin = 0;  // offset in the tar
  Bytes tar;
  // By whoever encodes it:
  Sha256Bytes digest{};  // of `tar`
  std::array<Bytes, kMaxTargets> encoded;
  Status status;
};

// Three parties: the cutter takes free chunks, fills and submits them, and
// closes; encoders mark chunks as done, in any order; the writer takes them in
// the order of submission and gives them back. At most `chunks` exist, which
// bounds the memory; buffers are used again. Thread-safe.
class ChunkLine {
 public:
  explicit ChunkLine(size_t chunks) : chunks_(chunks) {}

  // The cutter's. Blocks; nullptr once the writer has given up.
  Chunk* take_free();
  // From here on it is the encoders'.
  void submit(Chunk* chunk);
  void close();

  // The encoders'.
  void done(Chunk* chunk);

  // The writer's. Blocks until the next one is done; nullptr at the end, which
  // has to be waited for even after abandon(): encoders hold chunks till then.
  Chunk* take_done();
  void give_back(Chunk* chunk);
  void abandon();

 private:
  struct Slot : Chunk {
    bool is_done = false;
  };
  const size_t chunks_;
  Mutex mutex_;
  CondVar wake_;
  std::vector<std::unique_ptr<Slot>> slots_ GUARDED_BY(mutex_);
  std::vector<Slot*> free_ GUARDED_BY(mutex_);
  std::deque<Slot*> line_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
  bool abandoned_ GUARDED_BY(mutex_) = false;
};

}  // namespace pagein::convert
