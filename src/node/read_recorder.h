// What is read of an image's layers, and in which order: for `pagein record`.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "startup/trace.h"
#include "store/layer.h"

namespace pagein::node {

// As many reads of a start are told; later ones are left out.
inline constexpr size_t kMaxRecordedReads = 200'000;

// Thread-safe; never blocks. Times are since it was made.
class ReadRecorder {
 public:
  // A read of the layer's data file. What goes on where the layer's last one
  // ended becomes one with it.
  void note(const store::Layer& layer, uint64_t data_offset, uint64_t length);
  // So far, by offsets in the layers' tars.
  std::vector<startup::TraceRead> reads() const;
  size_t count() const;

 private:
  struct Last {
    uint64_t data_end = 0;
    size_t read = 0;  // number in reads_
  };
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  mutable Mutex mutex_;
  std::map<std::string, Last> last_ GUARDED_BY(mutex_);  // by layer
  std::vector<startup::TraceRead> reads_ GUARDED_BY(mutex_);
};

}  // namespace pagein::node
