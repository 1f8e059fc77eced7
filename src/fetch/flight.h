// One run of adjacent spans of a layer on its way: fetched by one ranged read
// (and one for the checkpoint payload where the run's start needs it and it is
// not here yet), decoded as the bytes arrive, verified span by span.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "fetch/checkpoints.h"
#include "fetch/context.h"
#include "fetch/origin.h"
#include "index/layer_index.h"
#include "registry/blob_source.h"

namespace pagein::fetch {

// Spans [first, last).
struct Run {
  size_t first = 0;
  size_t last = 0;
};

class Flight;

// What a flight tells its owner, one call at a time: from a worker thread, or
// inside start() where the context has stopped. Two flights may bring the same
// span after one could not keep it, so each says which it is.
class FlightOwner {
 public:
  virtual ~FlightOwner() = default;
  // The span's verified tar bytes, valid during the call.
  virtual void on_span(const Flight& flight, size_t span, ByteView tar) = 0;
  // Exactly once, last. An error means that the spans not given are not coming.
  virtual void on_flight_end(const Flight& flight, Status status) = 0;
};

// Spans are built up in memory: a longer one (the spacing that an index was
// made with is at most half of it) is not served.
inline constexpr uint64_t kMaxSpanBytes = 64 << 20;
// unsupported where the layer has one.
Status check_span_sizes(const index::LayerIndex& index);

// Thread-safe. Keeps itself alive until on_flight_end has returned.
//
// Bytes that do not verify are fetched again, from the next origin where there
// are several; other errors are final once each origin was asked. Whoever waits
// gets the last one.
class Flight : public std::enable_shared_from_this<Flight> {
 public:
  Flight(Context& context, std::shared_ptr<const index::LayerIndex> index,
         std::shared_ptr<Checkpoints> checkpoints, std::vector<LayerOrigin> origins, Run run,
         net::Priority priority, std::shared_ptr<FlightOwner> owner);
  ~Flight();

  // Issues the reads. Never blocks. Once.
  void start();
  // Somebody waits now for what was fetched in the background. May come before
  // start().
  void promote();
  // Ends soon with Code::cancelled.
  void cancel();

  const Run& run() const { return run_; }

 private:
  class Sink;
  enum class Part { data, payload };
  // When what first happened, for the log; zero where it has not.
  struct Milestones {
    net::Clock::time_point start, first_byte, first_work, first_span;
  };
  using Reads = std::vector<std::pair<std::shared_ptr<registry::BlobSource>, registry::ReadId>>;

  void issue_reads();
  Reads abandon_reads() REQUIRES(mutex_);
  static void cancel_reads(const Reads& reads);
  static void promote_reads(const Reads& reads);
  void on_data(uint64_t generation, Part part, ByteView bytes);
  void on_read_done(uint64_t generation, Part part, Status status);
  void schedule() REQUIRES(mutex_);
  void post_work() REQUIRES(mutex_);
  void work();
  bool step();
  Status decode(const Bytes& chunk);
  Status on_output(ByteView piece);
  Status finish_span();
  // Fetch again from the first span not delivered, or give up.
  void retry_or_end(Error error);
  bool may_retry(const Error& error) const;
  void end(Status status);
  std::string describe() const;
  void log_times(net::Priority priority, const Milestones& times, bool ok) const;

  Context& context_;
  const std::shared_ptr<const index::LayerIndex> index_;
  const std::shared_ptr<Checkpoints> checkpoints_;
  const std::vector<LayerOrigin> origins_;
  const Run run_;
  const std::chrono::seconds patience_;
  std::shared_ptr<FlightOwner> owner_;  // reset at the end

  Mutex mutex_;
  net::Priority priority_ GUARDED_BY(mutex_);
  // Reads of an older generation are ignored.
  uint64_t generation_ GUARDED_BY(mutex_) = 0;
  Reads reads_ GUARDED_BY(mutex_);
  std::deque<Bytes> input_ GUARDED_BY(mutex_);
  Bytes payload_ GUARDED_BY(mutex_);
  bool payload_ready_ GUARDED_BY(mutex_) = false;
  bool data_ended_ GUARDED_BY(mutex_) = false;
  bool received_ GUARDED_BY(mutex_) = false;
  std::optional<Error> failure_ GUARDED_BY(mutex_);
  // A worker has been asked for; once work() runs, the thread it runs on.
  bool scheduled_ GUARDED_BY(mutex_) = false;
  int running_ GUARDED_BY(mutex_) = 0;
  net::Clock::time_point deadline_ GUARDED_BY(mutex_){};
  bool started_ GUARDED_BY(mutex_) = false;
  bool cancelled_ GUARDED_BY(mutex_) = false;
  Milestones times_ GUARDED_BY(mutex_);
  bool ended_ GUARDED_BY(mutex_) = false;

  // Only the worker that runs work() touches these; `running_` makes it one.
  class Output;
  std::unique_ptr<codec::SpanStream> decoder_;
  bool decoding_ = false;
  size_t next_span_;       // first span not delivered yet
  Bytes tar_;              // of next_span_, so far
  unsigned attempts_ = 0;  // that failed
};

}  // namespace pagein::fetch
