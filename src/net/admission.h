// Which queued request may start next: per origin, by priority, within limits.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "net/http_client.h"

namespace pagein::net {

// Limits are per origin. Demand may fill an origin's connections; the other
// classes only their share, so that demand finds one free. Confined to one
// thread (the net thread); does no I/O.
class Admission {
 public:
  explicit Admission(const ClientOptions& options);

  // At the end of its class's queue, or in front (a redirect's next hop).
  void enqueue(RequestId id, const std::string& origin, Priority priority);
  void enqueue_front(RequestId id, const std::string& origin, Priority priority);
  // True if it was queued and is no more.
  bool remove_queued(RequestId id, const std::string& origin, Priority priority);

  // The next one that may start now, already counted as running.
  std::optional<RequestId> take_next();
  // One that take_next() gave out has ended, or is paused by its owner and
  // gives up its place: else paused transfers could keep the very one from
  // starting that their owner waits for.
  void finished(const std::string& origin, Priority priority);

  // One that gave up its place goes on: counted again, whatever the limits.
  void resumed(const std::string& origin, Priority priority);

  void set_limit(Priority priority, size_t limit) { limits_[index(priority)] = limit; }
  void set_paused(Priority priority, bool paused) { paused_[index(priority)] = paused; }
  // A demand request is queued or running at the origin.
  bool demand_present(const std::string& origin) const;
  size_t running() const { return running_; }
  size_t queued() const { return queued_; }

 private:
  struct Origin {
    std::array<std::deque<RequestId>, kPriorityCount> queue;
    std::array<size_t, kPriorityCount> running{};
  };
  static size_t index(Priority priority) { return static_cast<size_t>(priority); }
  bool may_start(const Origin& origin, size_t priority) const;
  void forget_if_idle(const std::string& origin);

  std::map<std::string, Origin> origins_;
  std::array<size_t, kPriorityCount> limits_;
  std::array<bool, kPriorityCount> paused_{};
  bool background_yields_;
  size_t max_per_origin_;
  size_t max_total_;
  size_t running_ = 0;
  size_t queued_ = 0;
};

}  // namespace pagein::net
