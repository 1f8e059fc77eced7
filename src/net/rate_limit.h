// A token bucket that may go into debt: what has arrived cannot be cut.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "net/http_client.h"

namespace pagein::net {

// Bytes per second; 0: no limit. Confined to one thread; the clock is the
// caller's.
class RateLimit {
 public:
  void set_rate(uint64_t bytes_per_second, Clock::time_point now) {
    rate_ = static_cast<double>(bytes_per_second);
    tokens_ = 0;
    last_ = now;
  }
  // True: taken. False: nothing taken; ask again after wait().
  bool take(size_t bytes, Clock::time_point now) {
    if (rate_ == 0) return true;
    refill(now);
    if (tokens_ < 0) return false;
    tokens_ -= static_cast<double>(bytes);
    return true;
  }
  // Until the debt is paid, and a little more so that there are not too many wake-ups.
  std::chrono::nanoseconds wait(Clock::time_point now) {
    if (rate_ == 0) return {};
    refill(now);
    const double seconds = std::max(0.0, -tokens_ / rate_) + 0.005;
    return std::chrono::nanoseconds(static_cast<int64_t>(std::min(seconds, 60.0) * 1e9));
  }

 private:
  // Unused time counts for at most 100 ms: no bursts after idling.
  void refill(Clock::time_point now) {
    const double seconds = std::chrono::duration<double>(now - last_).count();
    tokens_ = std::min(tokens_ + seconds * rate_, rate_ / 10);
    last_ = now;
  }
  double rate_ = 0;
  double tokens_ = 0;
  Clock::time_point last_{};
};

}  // namespace pagein::net
