// The bytes of a blob in order, as they arrive, with bounded memory.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "base/mutex.h"
#include "fetch/context.h"
#include "oci/digest.h"
#include "registry/blob_source.h"

namespace pagein::fetch {

struct PackStreamOptions {
  std::shared_ptr<registry::BlobSource> source;
  oci::Digest digest;
  uint64_t size = 0;  // of the blob
  net::Clock::time_point deadline = net::Clock::time_point::max();
  // What is received and not taken beyond this holds the transfer back.
  uint64_t max_buffered = 2 << 20;
};

// Read at prefetch priority. open(), take(), skip() are for one thread at a
// time, the rest is thread-safe. Never blocks. Bytes are not verified here.
class PackStream : public std::enable_shared_from_this<PackStream> {
 public:
  // `news`: something has come, or nothing more will: look again. Comes on the
  // source's thread, without a lock; not after close().
  PackStream(Context& context, PackStreamOptions options, std::function<void()> news);

  // Goes on at another place: bytes [offset, end) come next; what was asked for
  // before and has not been taken is dropped. offset < end <= size.
  void open(uint64_t offset, uint64_t end);
  // Moves bytes to the end of `out` until it has `length`. false: not all is here
  // yet. Errors: of the read; unavailable where the range that was opened ends.
  Result<bool> take(uint64_t length, Bytes* out);
  // The same for bytes that nobody needs; `left` is what is still to skip.
  Result<bool> skip(uint64_t* left);
  // Ends the reading, for good.
  void close();

  uint64_t position() const { return position_.load(std::memory_order_relaxed); }  // of take()
  uint64_t end() const { return end_; }  // of the range that was opened; for take()'s thread
  uint64_t received() const { return received_.load(std::memory_order_relaxed); }  // in all
  // Received and taken, over the time since the first byte; 0 where none came.
  double bytes_per_second() const;
  // Nothing has come for so long, although nothing holds it back.
  bool stalled(std::chrono::milliseconds limit) const;

 private:
  class Sink;
  void on_data(uint64_t generation, ByteView bytes);
  void on_done(uint64_t generation, Status status);
  void resume_if_room();
  struct Reading {
    uint64_t generation = 0;
    registry::ReadId id = 0;  // 0 while read() has not returned
  };

  Context& context_;
  const PackStreamOptions options_;
  const std::function<void()> news_;
  std::atomic<uint64_t> position_{0};
  std::atomic<uint64_t> received_{0};
  uint64_t end_ = 0;

  mutable Mutex mutex_;
  Reading reading_ GUARDED_BY(mutex_);
  std::deque<Bytes> input_ GUARDED_BY(mutex_);
  size_t front_used_ GUARDED_BY(mutex_) = 0;  // of input_.front(), taken already
  uint64_t buffered_ GUARDED_BY(mutex_) = 0;
  bool paused_ GUARDED_BY(mutex_) = false;
  bool closed_ GUARDED_BY(mutex_) = false;
  bool ended_ GUARDED_BY(mutex_) = false;
  std::optional<Error> failure_ GUARDED_BY(mutex_);
  std::optional<net::Clock::time_point> first_byte_ GUARDED_BY(mutex_);
  net::Clock::time_point last_news_ GUARDED_BY(mutex_){};
};

}  // namespace pagein::fetch
