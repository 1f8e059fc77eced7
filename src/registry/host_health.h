// Which hosts of a registry had better not be asked now.
#pragma once

#include <chrono>
#include <map>
#include <string>

#include "base/mutex.h"
#include "net/http_client.h"

namespace pagein::registry {

// Thread-safe; never blocks. A host is named by where it is reached (origin and path).
// A host that failed rests: 5 s, then twice as long each time it fails again, up to 5 minutes. An
// answer ends that, except for a host whose bytes were wrong: answers are no proof there, so only
// time does.
class HostHealth {
 public:
  using Time = net::Clock::time_point;
  enum class Failure { no_answer, wrong_bytes };

  void failed(const std::string& host, Failure failure, Time now);
  void answered(const std::string& host);
  bool rests(const std::string& host, Time now) const;

 private:
  struct State {
    unsigned failures = 0;  // in a row
    bool wrong_bytes = false;
    Time rest_until{};
  };
  mutable Mutex mutex_;
  std::map<std::string, State> hosts_ GUARDED_BY(mutex_);
};

}  // namespace pagein::registry
