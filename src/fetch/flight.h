// One run of adjacent spans of a layer on its way: fetched by one ranged read
// (and one for the checkpoint payload where the run's start needs it), decoded
// as the bytes arrive, verified span by span.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "fetch/context.h"
#include "index/layer_index.h"
#include "registry/blob_source.h"

namespace pagein::fetch {

// Where a layer's bytes come from. Immutable.
struct LayerOrigin {
  std::shared_ptr<registry::BlobSource> source;
  oci::Digest index_blob;  // holds the checkpoint payloads behind its head
  uint64_t index_blob_size = 0;
  std::string name;  // repository or folder, for messages
};

// Spans [first, last).
struct Run {
  size_t first = 0;
  size_t last = 0;
};

// What a flight tells its owner, from a worker thread, one call at a time.
class FlightOwner {
 public:
  virtual ~FlightOwner() = default;
  // The span's verified tar bytes, valid during the call.
  virtual void on_span(size_t span, ByteView tar) = 0;
  // Exactly once, last. An error means that the spans not given are not coming.
  virtual void on_flight_end(const Run& run, net::Priority priority, Status status) = 0;
};

// Thread-safe. Keeps itself alive until on_flight_end has returned.
class Flight : public std::enable_shared_from_this<Flight> {
 public:
  Flight(Context& context, std::shared_ptr<const index::LayerIndex> index,
         std::vector<LayerOrigin> origins, Run run, net::Priority priority,
         std::shared_ptr<FlightOwner> owner);
  ~Flight();

  // Issues the reads. Never blocks.
  void start();
  // Somebody waits now for what was fetched in the background.
  void promote();
  // Ends soon with Code::cancelled.
  void cancel();

  const Run& run() const { return run_; }

 private:
  class Sink;
  enum class Part { data, payload };
  using Reads = std::vector<std::pair<std::shared_ptr<registry::BlobSource>, registry::ReadId>>;

  void issue_reads();
  Reads abandon_reads() REQUIRES(mutex_);
  static void cancel_reads(const Reads& reads);
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
  void end(Status status);
  std::string describe() const;

  Context& context_;
  const std::shared_ptr<const index::LayerIndex> index_;
  const std::vector<LayerOrigin> origins_;
  const Run run_;
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
  bool ended_ GUARDED_BY(mutex_) = false;

  // Only the worker that runs work() touches these; `running_` makes it one.
  class Output;
  std::unique_ptr<codec::SpanStream> decoder_;
  bool decoding_ = false;
  size_t next_span_;   // first span not delivered yet
  Bytes tar_;          // of next_span_, so far
  unsigned attempts_ = 0;
};

}  // namespace pagein::fetch
