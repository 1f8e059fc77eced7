// Progress of several parts at once: one redrawn line each on a terminal,
// plain lines otherwise.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/mutex.h"

namespace pagein::cli {

// Thread-safe. Writes to standard error.
class Progress {
 public:
  enum class Style { automatic, silent };
  explicit Progress(Style style);
  ~Progress();

  void begin(std::vector<std::pair<std::string, uint64_t>> parts);  // label, total bytes
  void update(size_t part, uint64_t bytes);
  void done(size_t part, const std::string& outcome);

 private:
  struct Part {
    std::string label;
    uint64_t total = 0;
    uint64_t bytes = 0;
    std::chrono::steady_clock::time_point begin{};
    std::string outcome;
  };
  std::string line(const Part& part) const;
  void draw() REQUIRES(mutex_);

  const bool silent_;
  const bool terminal_;
  Mutex mutex_;
  std::vector<Part> parts_ GUARDED_BY(mutex_);
  size_t drawn_ GUARDED_BY(mutex_) = 0;
  std::chrono::steady_clock::time_point last_draw_ GUARDED_BY(mutex_){};
};

}  // namespace pagein::cli
