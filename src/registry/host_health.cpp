#include "registry/host_health.h"

#include <algorithm>

namespace pagein::registry {

namespace {
constexpr std::chrono::seconds kFirstRest{5};
constexpr std::chrono::seconds kLongestRest{300};
constexpr size_t kMaxHostsKnown = 4096;
}  // namespace

void HostHealth::failed(const std::string& host, Failure failure, Time now) {
  MutexLock lock(mutex_);
  if (hosts_.size() >= kMaxHostsKnown && !hosts_.contains(host)) hosts_.clear();
  State& state = hosts_[host];
  if (state.rest_until > now) return;  // requests that were under way fail together
  // What went wrong long ago says little.
  if (state.failures > 0 && now - state.rest_until > 2 * kLongestRest) state = State();
  const auto rest = kFirstRest * (1U << std::min(state.failures, 6U));
  ++state.failures;
  state.wrong_bytes = state.wrong_bytes || failure == Failure::wrong_bytes;
  state.rest_until = now + std::min<std::chrono::seconds>(rest, kLongestRest);
}

void HostHealth::answered(const std::string& host) {
  MutexLock lock(mutex_);
  const auto it = hosts_.find(host);
  if (it != hosts_.end() && !it->second.wrong_bytes) hosts_.erase(it);
}

bool HostHealth::rests(const std::string& host, Time now) const {
  MutexLock lock(mutex_);
  const auto it = hosts_.find(host);
  return it != hosts_.end() && it->second.rest_until > now;
}

}  // namespace pagein::registry
