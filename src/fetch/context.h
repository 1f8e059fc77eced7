// What all layers' page-in shares: threads, decoders, counters, and the rule
// that background work yields to demand.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "codec/span_decoder.h"
#include "fetch/checkpoints.h"
#include "fetch/worker_pool.h"
#include "net/http_client.h"

namespace pagein::fetch {

struct ContextOptions {
  // A demand read gives up after this long, with an error.
  std::chrono::seconds deadline{120};
  size_t demand_threads = 2;
  size_t background_threads = 2;
  // Compressed bytes of one background request, at least.
  uint64_t background_run = 1 << 20;
  // Compressed bytes of one demand request, at least, where that many are
  // missing in a row; more where a round trip delivers more.
  uint64_t least_fetch = 192 << 10;
  // Longest read-ahead of a sequential reader, uncompressed bytes.
  uint64_t max_read_ahead = 4 << 20;
  // Memory for checkpoints read ahead, of all layers that are not complete.
  uint64_t checkpoint_memory = 32 << 20;
  // Times that bytes which fail verification are fetched again.
  unsigned verify_retries = 2;
  // For tests: low threads run late on a busy machine.
  Weight background_weight = Weight::low;
  // The clock by which background work yields; for tests.
  std::function<net::Clock::time_point()> now = net::Clock::now;
};

// Monotonic; indexed by net::Priority where an array.
struct Counters {
  std::atomic<uint64_t> bytes[net::kPriorityCount] = {};  // compressed, received
  std::atomic<uint64_t> spans[net::kPriorityCount] = {};  // verified
  std::atomic<uint64_t> flights[net::kPriorityCount] = {};
  std::atomic<uint64_t> reads{0};   // ranges asked for that were not there
  std::atomic<uint64_t> joined{0};  // of them, waited for a flight of another
  std::atomic<uint64_t> verify_failures{0};
  std::atomic<uint64_t> errors{0};      // reads that ended in an error
  std::atomic<uint64_t> store_full{0};  // spans served from memory, disk full
  std::atomic<uint64_t> wait_us{0};     // of demand reads, summed
  // Startup packs, and the demand reads of layers that a pack was loaded for.
  std::atomic<uint64_t> startup_loads{0};
  std::atomic<uint64_t> startup_failures{0};
  std::atomic<uint64_t> startup_hits{0};       // found first what a pack had brought
  std::atomic<uint64_t> startup_waits{0};      // waited for the pack
  std::atomic<uint64_t> startup_overtakes{0};  // did not wait for it
  std::atomic<uint64_t> startup_misses{0};     // had to fetch, the overtakes among them
};

class Flight;
class StartupLoader;

// Thread-safe. Must outlive the pagers that use it; callbacks of sources may
// come later still: a flight that has ended does not touch it.
class Context {
 public:
  explicit Context(ContextOptions options);
  ~Context();

  const ContextOptions& options() const { return options_; }
  WorkerPool& pool(net::Priority priority) {
    return priority == net::Priority::background ? background_pool_ : demand_pool_;
  }
  Counters& counters() { return counters_; }
  const std::shared_ptr<CheckpointBudget>& checkpoint_budget() const { return checkpoint_budget_; }

  // A decoder owns some 350 KiB of buffers: they are used again.
  std::unique_ptr<codec::SpanStream> take_decoder();
  void give_back(std::unique_ptr<codec::SpanStream> decoder);

  // Demand reads under way, and when the last one ended.
  void demand_begins() { demand_active_.fetch_add(1); }
  void demand_ends();
  // Somebody waits, or did a moment ago: background work stays off the link.
  bool demand_busy() const;

  net::Clock::time_point now() const { return options_.now(); }

  // Flights are known (and counted) from start to end, so that stop() can call
  // them off. false: stopping, the flight must end at once.
  bool begin_flight(std::shared_ptr<Flight> flight, net::Priority priority);
  void end_flight(const Flight& flight);
  size_t flights() const;  // under way
  // The same for loaders of startup packs. While there are any, background work
  // waits.
  bool begin_startup(std::shared_ptr<StartupLoader> loader);
  void end_startup(const StartupLoader& loader);
  bool startup_active() const { return startups_active_.load() > 0; }
  bool stopping() const { return stopping_.load(); }

  // Calls off all loaders and flights (whoever waits gets `cancelled`), waits until they
  // have ended and joins the threads. From then on every read that is not
  // there ends with `cancelled`. Not on a worker thread.
  void stop();

 private:
  const ContextOptions options_;
  Counters counters_;
  const std::shared_ptr<CheckpointBudget> checkpoint_budget_;
  std::atomic<uint64_t> demand_active_{0};
  std::atomic<int64_t> demand_ended_us_{0};
  Mutex mutex_;
  std::vector<std::unique_ptr<codec::SpanStream>> decoders_ GUARDED_BY(mutex_);
  std::atomic<bool> stopping_{false};  // set under flights_mutex_
  mutable Mutex flights_mutex_;
  CondVar flights_ended_;
  std::unordered_map<const Flight*, std::shared_ptr<Flight>> flights_ GUARDED_BY(flights_mutex_);
  std::unordered_map<const StartupLoader*, std::shared_ptr<StartupLoader>> startups_
      GUARDED_BY(flights_mutex_);
  std::atomic<size_t> startups_active_{0};
  WorkerPool demand_pool_;
  WorkerPool background_pool_;
};

}  // namespace pagein::fetch
