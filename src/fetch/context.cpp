#include "fetch/context.h"

#include "fetch/flight.h"
#include "fetch/startup_loader.h"

namespace pagein::fetch {
namespace {

// A starting program computes between reads; within this pause it is likely
// to ask for more.
constexpr int64_t kDemandLingerUs = 8000;
constexpr size_t kKeptDecoders = 16;

int64_t microseconds(net::Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

}  // namespace

Context::Context(ContextOptions options)
    : options_(std::move(options)),
      checkpoint_budget_(std::make_shared<CheckpointBudget>(options_.checkpoint_memory)),
      demand_pool_("page-in", options_.demand_threads, Weight::normal),
      background_pool_("background", options_.background_threads, options_.background_weight) {}

Context::~Context() { stop(); }

bool Context::begin_flight(std::shared_ptr<Flight> flight, net::Priority priority) {
  MutexLock lock(flights_mutex_);
  if (stopping_.load()) return false;
  counters_.flights[static_cast<size_t>(priority)]++;
  const Flight* key = flight.get();
  flights_.emplace(key, std::move(flight));
  return true;
}

void Context::end_flight(const Flight& flight) {
  decltype(flights_)::node_type ended;  // let go without the lock
  MutexLock lock(flights_mutex_);
  ended = flights_.extract(&flight);
  if (flights_.empty()) flights_ended_.notify_all();
}

size_t Context::flights() const {
  MutexLock lock(flights_mutex_);
  return flights_.size();
}

bool Context::begin_startup(std::shared_ptr<StartupLoader> loader) {
  MutexLock lock(flights_mutex_);
  if (stopping_.load()) return false;
  counters_.startup_loads++;
  const StartupLoader* key = loader.get();
  startups_.emplace(key, std::move(loader));
  startups_active_.store(startups_.size());
  return true;
}

void Context::end_startup(const StartupLoader& loader) {
  decltype(startups_)::node_type ended;  // let go without the lock
  MutexLock lock(flights_mutex_);
  ended = startups_.extract(&loader);
  startups_active_.store(startups_.size());
  if (startups_.empty()) flights_ended_.notify_all();
}

void Context::stop() {
  std::vector<std::shared_ptr<StartupLoader>> startups;
  std::vector<std::shared_ptr<Flight>> flights;
  {
    MutexLock lock(flights_mutex_);
    stopping_.store(true);
    for (const auto& [key, loader] : startups_) startups.push_back(loader);
  }
  // First: reads that waited for one of them get flights, which end at once.
  for (const auto& loader : startups) loader->cancel();
  startups.clear();
  {
    MutexLock lock(flights_mutex_);
    for (const auto& [key, flight] : flights_) flights.push_back(flight);
  }
  for (const auto& flight : flights) flight->cancel();
  flights.clear();
  {
    MutexLock lock(flights_mutex_);
    while (!flights_.empty() || !startups_.empty()) flights_ended_.wait(flights_mutex_);
  }
  background_pool_.stop();
  demand_pool_.stop();
}

std::unique_ptr<codec::SpanStream> Context::take_decoder() {
  {
    MutexLock lock(mutex_);
    if (!decoders_.empty()) {
      auto decoder = std::move(decoders_.back());
      decoders_.pop_back();
      return decoder;
    }
  }
  return std::make_unique<codec::SpanStream>();
}

void Context::give_back(std::unique_ptr<codec::SpanStream> decoder) {
  MutexLock lock(mutex_);
  if (decoder != nullptr && decoders_.size() < kKeptDecoders)
    decoders_.push_back(std::move(decoder));
}

void Context::demand_ends() {
  demand_ended_us_.store(microseconds(now()), std::memory_order_relaxed);
  demand_active_.fetch_sub(1);
}

bool Context::demand_busy() const {
  return demand_active_.load() > 0 ||
         microseconds(now()) - demand_ended_us_.load(std::memory_order_relaxed) < kDemandLingerUs;
}

}  // namespace pagein::fetch
