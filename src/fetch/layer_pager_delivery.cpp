// What comes ahead of the reads that want it: by a delivery, or by prefetch
// flights.
#include <algorithm>

#include "base/sha256.h"
#include "fetch/layer_pager.h"
#include "fetch/layer_waiter.h"

namespace pagein::fetch {

bool LayerPager::is_for_demand(size_t span) const {
  if (is_here(span)) return false;
  const auto it = pending_.find(span);
  if (it == pending_.end()) return true;
  return it->second.flight == nullptr && !it->second.delivery->is_near(it->second.place);
}

size_t LayerPager::expect(const std::shared_ptr<Delivery>& delivery, Run run, uint64_t place) {
  MutexLock lock(mutex_);
  if (settled() || context_.stopping()) return 0;
  if (brought_owner_ == nullptr) {
    brought_owner_ = std::make_unique<store::Presence>(layer_->index()->spans.size());
    brought_.store(brought_owner_.get(), std::memory_order_release);
  }
  size_t count = 0;
  for (size_t span = run.first; span < run.last; ++span) {
    if (is_here(span) || pending_.contains(span)) continue;
    Pending& pending = pending_[span];
    pending.delivery = delivery;
    pending.place = place;
    ++count;
  }
  return count;
}

bool LayerPager::expects(const Delivery& delivery, Run run) const {
  MutexLock lock(mutex_);
  for (size_t span = run.first; span < run.last; ++span) {
    const auto it = pending_.find(span);
    if (it != pending_.end() && it->second.delivery.get() == &delivery) return true;
  }
  return false;
}

Status LayerPager::deliver(const Delivery& delivery, size_t span, ByteView tar) {
  if (!expects(delivery, {span, span + 1})) return {};
  if (sha256(tar) != layer_->index()->spans[span].digest) {
    context_.counters().verify_failures++;
    return Error(Code::corrupt_input, "span " + std::to_string(span) + " of layer " +
                                          layer_->index()->layer_digest.str() +
                                          " does not have the digest that the index gives");
  }
  context_.counters().spans[static_cast<size_t>(net::Priority::prefetch)]++;
  Status written = keep(span, tar);
  std::vector<std::shared_ptr<Waiter>> waiters;
  {
    MutexLock lock(mutex_);
    const auto it = pending_.find(span);
    if (it != pending_.end() && it->second.delivery.get() == &delivery) {
      waiters = std::move(it->second.waiters);
      pending_.erase(it);
    }
    if (written.ok()) {
      forget_aside(span);
      if (waiters.empty()) mark_brought(span);
    } else if (!waiters.empty()) {
      keep_aside(span, tar);
    }
  }
  settle(waiters, {});
  return written;
}

// Demand flights for spans that somebody waits for.
LayerPager::Flights LayerPager::fly_instead(std::vector<size_t> spans,
                                            std::vector<std::shared_ptr<Waiter>>* lost) {
  Flights flights;
  std::sort(spans.begin(), spans.end());
  for (size_t i = 0; i < spans.size();) {
    if (origins_.empty()) {
      const auto it = pending_.find(spans[i++]);
      std::move(it->second.waiters.begin(), it->second.waiters.end(), std::back_inserter(*lost));
      pending_.erase(it);
      continue;
    }
    Run run{spans[i], spans[i] + 1};
    while (++i < spans.size() && spans[i] == run.last && can_go_on(run.last)) ++run.last;
    flights.push_back(make_flight(run, net::Priority::demand));
  }
  return flights;
}

void LayerPager::overtake(const Delivery& delivery, size_t span) {
  Flights flights;
  std::vector<std::shared_ptr<Waiter>> lost;
  {
    MutexLock lock(mutex_);
    const auto it = pending_.find(span);
    if (it == pending_.end() || it->second.delivery.get() != &delivery ||
        it->second.waiters.empty()) {
      return;
    }
    flights = fly_instead({span}, &lost);
  }
  context_.counters().startup_overtakes++;
  start(flights);
  settle(lost, Error(Code::unavailable, "no registry is known for the layer"));
}

void LayerPager::give_up(const Delivery& delivery) {
  Flights flights;
  std::vector<std::shared_ptr<Waiter>> lost;
  std::vector<std::shared_ptr<Delivery>> gone;  // let go without the lock
  {
    MutexLock lock(mutex_);
    std::vector<size_t> awaited;
    for (auto it = pending_.begin(); it != pending_.end();) {
      if (it->second.delivery.get() != &delivery) {
        ++it;
        continue;
      }
      gone.push_back(it->second.delivery);
      if (it->second.waiters.empty()) {
        it = pending_.erase(it);
      } else {
        awaited.push_back((it++)->first);
      }
    }
    flights = fly_instead(std::move(awaited), &lost);
  }
  start(flights);
  settle(lost, Error(Code::unavailable, "no registry is known for the layer"));
}

std::optional<size_t> LayerPager::start_prefetch_run(Run within, Completion done) {
  const uint64_t bytes = std::max(context_.options().background_run, 4 * round_trip_bytes());
  std::shared_ptr<Flight> flight;
  Run run;
  {
    MutexLock lock(mutex_);
    if (origins_.empty() || settled() || context_.stopping()) return std::nullopt;
    run.first = within.first;
    while (run.first < within.last && !is_free(run.first)) ++run.first;
    if (run.first == within.last) return std::nullopt;
    run.last = run.first + 1;
    while (run.last < within.last && can_go_on(run.last) && is_free(run.last) &&
           compressed_begin(run.last) - compressed_begin(run.first) < bytes) {
      ++run.last;
    }
    flight = make_flight(run, net::Priority::prefetch);
    BackgroundRun& kept = background_[flight.get()];
    kept.done = std::move(done);
    kept.startup = true;
  }
  start({std::move(flight)});
  return run.last;
}

void LayerPager::mark_brought(size_t span) {
  if (brought_owner_ == nullptr) {
    brought_owner_ = std::make_unique<store::Presence>(layer_->index()->spans.size());
    brought_.store(brought_owner_.get(), std::memory_order_release);
  }
  brought_owner_->set(span);
}

void LayerPager::count_startup_hit(uint64_t data_offset, uint64_t length) {
  store::Presence* brought = brought_.load(std::memory_order_acquire);
  if (brought == nullptr || brought->count() == 0) return;
  const auto [first, last] = layer_->spans_of(data_offset, length);
  bool hit = false;
  for (size_t span = first; span < last; ++span) {
    if (!brought->test(span)) continue;
    brought->drop(span);
    hit = true;
  }
  if (hit) context_.counters().startup_hits++;
}

}  // namespace pagein::fetch
