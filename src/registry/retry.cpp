#include "registry/retry.h"

#include <time.h>

#include <algorithm>
#include <charconv>
#include <random>
#include <string>
#include <thread>

#include "base/mutex.h"

namespace pagein::registry {

namespace {

class RealScheduler : public Scheduler {
 public:
  explicit RealScheduler(std::shared_ptr<net::Client> client) : client_(std::move(client)) {}
  net::Clock::time_point now() const override { return net::Clock::now(); }
  void run_after(std::chrono::nanoseconds delay, std::function<void()> task) override {
    client_->run_after(delay, std::move(task));
  }
  double random() override {
    MutexLock lock(mutex_);
    return std::uniform_real_distribution<double>(0, 1)(engine_);
  }
  void sleep(std::chrono::nanoseconds delay) override { std::this_thread::sleep_for(delay); }

 private:
  std::shared_ptr<net::Client> client_;
  Mutex mutex_;
  std::mt19937_64 engine_ GUARDED_BY(mutex_){std::random_device{}()};
};

// IMF-fixdate of RFC 9110 5.6.7; the two obsolete forms are not worth reading.
std::optional<int64_t> parse_http_date(std::string_view value) {
  struct tm when = {};
  const std::string text(value);
  const char* end = ::strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &when);
  if (end == nullptr || *end != '\0') return std::nullopt;
  return ::timegm(&when);
}

}  // namespace

std::shared_ptr<Scheduler> make_scheduler(std::shared_ptr<net::Client> client) {
  return std::make_shared<RealScheduler>(std::move(client));
}

std::chrono::nanoseconds RetryPolicy::delay(int failures, double random,
                                            std::optional<std::chrono::seconds> retry_after) const {
  const int doublings = std::clamp(failures - 1, 0, 20);
  const double step =
      static_cast<double>(first_delay.count()) * static_cast<double>(1 << doublings);
  const double capped = std::min(step, static_cast<double>(max_delay.count()));
  const auto jittered =
      std::chrono::nanoseconds(static_cast<int64_t>(capped * (0.5 + random / 2) * 1e6));
  if (!retry_after) return jittered;
  return std::max<std::chrono::nanoseconds>(jittered, std::min(*retry_after, max_retry_after));
}

std::optional<std::chrono::seconds> parse_retry_after(std::string_view value, int64_t now) {
  if (value.empty()) return std::nullopt;
  constexpr int64_t kLong = 86400 * 365;
  int64_t seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  if (end == value.data() + value.size()) {
    if (error == std::errc::result_out_of_range) return std::chrono::seconds(kLong);
    if (error != std::errc() || seconds < 0) return std::nullopt;
    return std::chrono::seconds(std::min(seconds, kLong));
  }
  const std::optional<int64_t> date = parse_http_date(value);
  if (!date) return std::nullopt;
  return std::chrono::seconds(std::clamp<int64_t>(*date - now, 0, kLong));
}

bool is_retryable_status(int status) {
  return status == 408 || status == 429 || status == 500 || (status >= 502 && status <= 504);
}

bool is_retryable(const Error& error) { return error.code == Code::unavailable; }

}  // namespace pagein::registry
