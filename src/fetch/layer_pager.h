// Page-in of one layer.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/sha256.h"
#include "fetch/context.h"
#include "fetch/delivery.h"
#include "fetch/flight.h"
#include "store/layer.h"

namespace pagein::fetch {

// Thread-safe; nothing here blocks except copy_out() (page cache or disk).
// Invariants:
//  P1 At most one flight or delivery brings a span at a time; all who want it
//     wait for it. But a demand read may take a span over from a delivery that
//     would bring it late: then what the delivery has of it is not used.
//  P2 A failed flight is never remembered: the next read tries anew.
//  P3 Each completion is called exactly once, without a lock held, on a worker
//     thread or inside want(); with `cancelled` where the context stops first.
class LayerPager : public FlightOwner, public std::enable_shared_from_this<LayerPager> {
 public:
  using Completion = std::function<void(Status)>;

  // `context` must outlive the pager and its flights. `origins` may be empty
  // for a layer that is complete.
  static std::shared_ptr<LayerPager> make(Context& context, std::shared_ptr<store::Layer> layer,
                                          std::vector<LayerOrigin> origins);
  ~LayerPager() override;

  store::Layer& layer() const { return *layer_; }
  // Where to fetch from, best first; replaces what was there.
  void set_origins(std::vector<LayerOrigin> origins);
  // "registry.example/app" of the first one; "" if there is none.
  std::string origin_name() const;

  // All of the data range is there: answer from layer().data_fd() at once.
  bool ready(uint64_t data_offset, uint64_t length) const {
    return layer_->has_data(data_offset, length);
  }
  // Fetches what is missing of the data range; `done` says when copy_out() can
  // give it. Errors: unavailable, timeout, corrupt_input, unauthenticated, ...
  void want(uint64_t data_offset, uint64_t length, net::Priority priority, Completion done);
  // After want() was ok. Also has what the disk had no room for, for a while;
  // unavailable if even that is gone (want it again).
  Status copy_out(uint64_t data_offset, std::span<uint8_t> out);

  // Starts one background flight over spans that are missing and on no flight
  // yet, the first of them as a rule; false if there are none, nowhere to fetch
  // from, or no use. `done` comes on a worker thread; an error also where the
  // disk could not keep what came.
  bool start_background_run(Completion done);
  // Starts a flight at prefetch priority over the first spans of the run that
  // are missing and on no flight yet, as much as a background run brings.
  // Returns where it ends; nullopt where there are none, or nowhere to fetch
  // from. `done` as above.
  std::optional<size_t> start_prefetch_run(Run within, Completion done);

  // What others bring (delivery.h). Each takes only what is still expected from
  // the delivery, so they may come in any order, and late.
  // Spans of the run that are neither here nor on their way are on their way by
  // the delivery from now on, at that place of it; how many these are. Until
  // give_up(), which has to follow.
  size_t expect(const std::shared_ptr<Delivery>& delivery, Run run, uint64_t place);
  bool expects(const Delivery& delivery, Run run) const;  // any of these
  // Checks a span against the index, keeps it and tells who waits.
  // corrupt_input: it is not what the index says; exhausted and others: the disk
  // could not keep it, who waited got it nevertheless. Blocks on disk.
  Status deliver(const Delivery& delivery, size_t span, ByteView tar);
  // Whoever waits for the span gets a demand flight instead.
  void overtake(const Delivery& delivery, size_t span);
  // Nothing more comes: the same for all spans of the delivery.
  void give_up(const Delivery& delivery);
  // A read found its data range here: counts it where a startup pack brought
  // that. Costs next to nothing where none did.
  void count_startup_hit(uint64_t data_offset, uint64_t length);

  // Complete or quarantined: nothing is left to do.
  bool settled() const;
  // Hashes what is present in order, up to the first gap; at the end of the
  // tar marks the layer complete or quarantines it. Where that cannot be made
  // durable, or bytes read back from the disk are not those that were written
  // (they are dropped, and it is no fault of the index), the layer stays
  // unsettled: load and call again. Blocks on disk: for background workers.
  // Returns at once while another thread is at it, which goes on for us.
  void advance_proof();

  // Ends all flights soon; their waiters get `cancelled`.
  void cancel_all();
  // Those that nobody waits for.
  void cancel_unwanted();

  // FlightOwner
  void on_span(const Flight& flight, size_t span, ByteView tar) override;
  void on_flight_end(const Flight& flight, Status status) override;

 private:
  struct Waiter;
  // Either a flight or a delivery brings it.
  struct Pending {
    std::shared_ptr<Flight> flight;
    std::shared_ptr<Delivery> delivery;
    uint64_t place = 0;  // in the delivery
    std::vector<std::shared_ptr<Waiter>> waiters;
  };
  LayerPager(Context& context, std::shared_ptr<store::Layer> layer,
             std::vector<LayerOrigin> origins);

  bool is_here(size_t span) const REQUIRES(mutex_);
  // Neither here, nor on its way sooner than a demand flight would bring it.
  bool is_for_demand(size_t span) const REQUIRES(mutex_);
  bool is_free(size_t span) const REQUIRES(mutex_);  // not on disk, on no flight
  size_t first_free(size_t span) const REQUIRES(mutex_);
  std::shared_ptr<Flight> make_flight(Run run, net::Priority priority) REQUIRES(mutex_);
  Run read_ahead(Run run, uint64_t least_bytes) REQUIRES(mutex_);
  bool can_go_on(size_t span) const;
  uint64_t compressed_begin(size_t span) const;
  uint64_t round_trip_bytes() const;
  static void settle(std::vector<std::shared_ptr<Waiter>>& waiters, const Status& status);
  void load_checkpoints();
  Status keep(size_t span, ByteView tar);
  void mark_brought(size_t span) REQUIRES(mutex_);
  using Flights = std::vector<std::shared_ptr<Flight>>;
  Flights fly_instead(std::vector<size_t> spans, std::vector<std::shared_ptr<Waiter>>* lost)
      REQUIRES(mutex_);
  void start(const Flights& flights);
  std::optional<Run> next_background_run(uint64_t bytes) REQUIRES(mutex_);
  void keep_aside(size_t span, ByteView tar) REQUIRES(mutex_);
  void forget_aside(size_t span) REQUIRES(mutex_);
  void prove() REQUIRES(proof_mutex_);
  bool hash_present_spans() REQUIRES(proof_mutex_);
  void copy_from_aside(const Bytes& tar, size_t span, uint64_t data_offset,
                       std::span<uint8_t> out) const;

  Context& context_;
  const std::shared_ptr<store::Layer> layer_;
  const std::shared_ptr<Checkpoints> checkpoints_;

  mutable Mutex mutex_;
  std::vector<LayerOrigin> origins_ GUARDED_BY(mutex_);
  std::unordered_map<size_t, Pending> pending_ GUARDED_BY(mutex_);
  // A background flight (also once promoted), and why the disk refused what it
  // brought: it must not look like a success, or it would be repeated for ever.
  struct BackgroundRun {
    Completion done;
    std::optional<Error> not_kept;
    bool startup = false;  // of prefetch priority, for a startup pack
  };
  std::unordered_map<const Flight*, BackgroundRun> background_ GUARDED_BY(mutex_);
  size_t background_cursor_ GUARDED_BY(mutex_) = 0;  // where to look first
  // Sequential readers: where one is expected next, and how much it got.
  struct Stream {
    size_t next = 0;
    size_t length = 0;
  };
  std::vector<Stream> streams_ GUARDED_BY(mutex_);
  size_t next_stream_ GUARDED_BY(mutex_) = 0;
  // Spans that the disk had no room for, newest last.
  std::map<size_t, std::shared_ptr<const Bytes>> aside_ GUARDED_BY(mutex_);
  std::deque<size_t> aside_order_ GUARDED_BY(mutex_);
  uint64_t aside_bytes_ GUARDED_BY(mutex_) = 0;

  // Spans that a startup pack brought and that nobody has read yet. Made with
  // the first pack, and kept: `brought_` is read without the lock.
  std::unique_ptr<store::Presence> brought_owner_ GUARDED_BY(mutex_);
  std::atomic<store::Presence*> brought_{nullptr};

  Mutex proof_mutex_;  // held while hashing: only one worker proves
  Sha256 proof_ GUARDED_BY(proof_mutex_);
  size_t proof_next_ GUARDED_BY(proof_mutex_) = 0;
  std::optional<oci::Digest> proof_result_ GUARDED_BY(proof_mutex_);
  std::atomic<bool> proof_wanted_{false};
};

}  // namespace pagein::fetch
