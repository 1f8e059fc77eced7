// Loads an image's startup pack (docs/formats/startup-pack.md): what a start
// reads, brought in one sequential read before it is asked for.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "fetch/context.h"
#include "fetch/delivery.h"
#include "fetch/layer_pager.h"
#include "fetch/pack_stream.h"
#include "fetch/range_prefetch.h"
#include "startup/pack_decoder.h"
#include "startup/pack_head.h"
#include "startup/pack_location.h"

namespace pagein::fetch {

struct StartupPack {
  startup::PackLocation location;
  std::shared_ptr<registry::BlobSource> source;
  // Layers of the image; what the pack has of others is passed over.
  std::vector<std::shared_ptr<LayerPager>> layers;
  std::string image;  // for messages
};

struct StartupOptions {
  // Runs the task after the delay, on any thread but never inside the call.
  // Dropping it is allowed at the end only. net::Client::run_after.
  std::function<void(std::chrono::milliseconds, std::function<void()>)> run_after;
  size_t max_flights = 2;  // ranges of layers fetched at once, beside the pack
  uint64_t max_buffered = 2 << 20;
  // What is not wanted of the pack is read over, up to so many bytes at least: a
  // request of its own costs round trips.
  uint64_t least_gap = 1 << 20;
  // A pack that brings nothing for so long is given up.
  std::chrono::milliseconds patience{5000};
};

// The pack is a hint: spans are verified against the layers' own indexes, and
// whatever goes wrong with it is logged once, and all goes on by demand.
// Thread-safe; never blocks. Must not outlive the pagers' context.
// Invariants:
//  S1 Once it has ended, no pager expects anything from it.
//  S2 Its memory is max_buffered, one piece's frame and its bytes, whatever the
//     pack says.
//  S3 A demand read waits for the pack only while that is near; at most for
//     twice the time that this should take.
class StartupLoader : public Delivery, public std::enable_shared_from_this<StartupLoader> {
 public:
  enum class State { loading, done, failed, cancelled };
  struct Progress {
    State state = State::loading;
    uint64_t size = 0;      // of the pack, bytes
    uint64_t received = 0;  // of it
    uint64_t spans = 0;     // that it brought
    std::chrono::microseconds time{0};
    std::string error;
  };
  // Called once, at the end, on any thread, without a lock.
  using Ended = std::function<void()>;

  static std::shared_ptr<StartupLoader> make(Context& context, StartupPack pack,
                                             StartupOptions options, Ended ended);

  void start();  // once
  // Has ended when this returns.
  void cancel();
  Progress progress() const;

  // Delivery
  bool is_near(uint64_t place) const override;
  void on_awaited(LayerPager& pager, size_t span) override;

 private:
  // One that the pack holds, and of which something was missing.
  struct Wanted {
    LayerPager* pager;
    Run run;
    uint64_t offset;  // of its frame in the pack
    uint64_t size;
    uint64_t end() const { return offset + size; }
  };

  StartupLoader(Context& context, StartupPack pack, StartupOptions options, Ended ended);
  void schedule();
  void work();
  // One piece of work; false where there is none until something comes.
  Result<bool> step();
  Result<bool> read_head();
  Status plan(const startup::PackHead& head);
  Result<bool> bring_next();
  Status bring(const Wanted& piece, ByteView frame);
  void go_on_at(const Wanted& piece);
  bool is_wanted(const Wanted& piece) const;
  void estimate();
  void watch();
  void finish_part();
  void fail(const Error& why);
  bool end(State state, const std::string& error);

  Context& context_;
  const StartupPack pack_;
  const StartupOptions options_;
  std::shared_ptr<PackStream> stream_;  // made by start()
  std::shared_ptr<RangePrefetch> ranges_;

  // What is_near() asks.
  std::atomic<uint64_t> allowance_{0};       // bytes ahead that are worth waiting for
  std::atomic<int64_t> longest_wait_us_{0};  // that these should take
  std::atomic<uint64_t> spans_{0};

  mutable Mutex mutex_;
  Ended ended_ GUARDED_BY(mutex_);
  State state_ GUARDED_BY(mutex_) = State::loading;
  std::string error_ GUARDED_BY(mutex_);
  net::Clock::time_point begin_ GUARDED_BY(mutex_){};
  net::Clock::time_point end_ GUARDED_BY(mutex_){};
  unsigned parts_left_ GUARDED_BY(mutex_) = 2;  // stream, ranges
  bool running_ GUARDED_BY(mutex_) = false;     // a worker is at it, or is asked for
  bool again_ GUARDED_BY(mutex_) = false;       // news came meanwhile

  // Only the worker touches these; `running_` makes it one.
  bool planned_ = false;
  bool over_ = false;
  std::vector<Wanted> wanted_;
  size_t next_ = 0;      // of wanted_
  uint64_t skip_ = 0;    // bytes up to wanted_[next_]
  bool placed_ = false;  // the stream is, or goes, to wanted_[next_]
  Bytes buffer_;         // head or frame, so far
  startup::PieceDecoder decoder_;
};

}  // namespace pagein::fetch
