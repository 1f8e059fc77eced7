// When and how long to wait before asking again: one policy for every request
// to a registry.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "net/http_client.h"

namespace pagein::registry {

// Time and randomness, so that tests need no sleeps. Thread-safe.
class Scheduler {
 public:
  virtual ~Scheduler() = default;
  virtual net::Clock::time_point now() const = 0;
  // On some thread of the scheduler, never inside the call; must not block.
  virtual void run_after(std::chrono::nanoseconds delay, std::function<void()> task) = 0;
  virtual double random() = 0;  // [0, 1)
  // Blocks for the delay.
  virtual void sleep(std::chrono::nanoseconds delay) = 0;
};

// Real time; tasks run on the client's net thread.
std::shared_ptr<Scheduler> make_scheduler(std::shared_ptr<net::Client> client);

struct RetryPolicy {
  int max_attempts = 6;  // in a row without progress
  std::chrono::milliseconds first_delay{200};
  std::chrono::milliseconds max_delay{10000};
  std::chrono::seconds max_retry_after{60};  // a server may ask for no more

  // Before attempt `failures` + 1 (failures >= 1): full jitter between half
  // and all of first_delay * 2^(failures-1); at least `retry_after`, capped.
  std::chrono::nanoseconds delay(int failures, double random,
                                 std::optional<std::chrono::seconds> retry_after) const;
};

// Retry-After in seconds or as an HTTP date (RFC 9110 10.2.3); nullopt: absent
// or nonsense. `now` in seconds since the epoch.
std::optional<std::chrono::seconds> parse_retry_after(std::string_view value, int64_t now);

// 408, 429, 500, 502, 503, 504.
bool is_retryable_status(int status);
// unavailable, and nothing else.
bool is_retryable(const Error& error);

}  // namespace pagein::registry
