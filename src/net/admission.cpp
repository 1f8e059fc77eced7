#include "net/admission.h"

#include <algorithm>
#include <numeric>

namespace pagein::net {

namespace {
constexpr size_t kDemand = static_cast<size_t>(Priority::demand);
constexpr size_t kBackground = static_cast<size_t>(Priority::background);
}  // namespace

Admission::Admission(const ClientOptions& options)
    : limits_{options.max_connections_per_origin, options.max_prefetch_per_origin,
              options.max_background_per_origin},
      background_yields_(options.background_yields),
      max_per_origin_(options.max_connections_per_origin),
      max_total_(options.max_connections) {}

void Admission::enqueue(RequestId id, const std::string& origin, Priority priority) {
  origins_[origin].queue[index(priority)].push_back(id);
  ++queued_;
}

void Admission::enqueue_front(RequestId id, const std::string& origin, Priority priority) {
  origins_[origin].queue[index(priority)].push_front(id);
  ++queued_;
}

bool Admission::remove_queued(RequestId id, const std::string& origin, Priority priority) {
  const auto it = origins_.find(origin);
  if (it == origins_.end()) return false;
  std::deque<RequestId>& queue = it->second.queue[index(priority)];
  const auto at = std::find(queue.begin(), queue.end(), id);
  if (at == queue.end()) return false;
  queue.erase(at);
  --queued_;
  forget_if_idle(origin);
  return true;
}

bool Admission::demand_present(const std::string& origin) const {
  const auto it = origins_.find(origin);
  return it != origins_.end() &&
         (it->second.running[kDemand] > 0 || !it->second.queue[kDemand].empty());
}

bool Admission::may_start(const Origin& origin, size_t priority) const {
  if (origin.queue[priority].empty() || paused_[priority]) return false;
  if (origin.running[priority] >= limits_[priority]) return false;
  const size_t running = std::accumulate(origin.running.begin(), origin.running.end(), size_t{0});
  if (running >= max_per_origin_) return false;
  const bool demand = origin.running[kDemand] > 0 || !origin.queue[kDemand].empty();
  return !(background_yields_ && priority == kBackground && demand);
}

std::optional<RequestId> Admission::take_next() {
  if (queued_ == 0 || running_ >= max_total_) return std::nullopt;
  for (size_t priority = 0; priority < kPriorityCount; ++priority) {
    for (auto& [name, origin] : origins_) {
      if (!may_start(origin, priority)) continue;
      const RequestId id = origin.queue[priority].front();
      origin.queue[priority].pop_front();
      --queued_;
      ++origin.running[priority];
      ++running_;
      return id;
    }
  }
  return std::nullopt;
}

void Admission::finished(const std::string& origin, Priority priority) {
  Origin& state = origins_[origin];
  --state.running[index(priority)];
  --running_;
  forget_if_idle(origin);
}

void Admission::resumed(const std::string& origin, Priority priority) {
  ++origins_[origin].running[index(priority)];
  ++running_;
}

void Admission::forget_if_idle(const std::string& origin) {
  const auto it = origins_.find(origin);
  if (it == origins_.end()) return;
  for (size_t i = 0; i < kPriorityCount; ++i) {
    if (!it->second.queue[i].empty() || it->second.running[i] > 0) return;
  }
  origins_.erase(it);
}

}  // namespace pagein::net
