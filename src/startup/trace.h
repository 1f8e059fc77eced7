// A startup trace: what a start read, in which order. `pagein record` writes
// it, a conversion makes a startup pack of it (docs/formats/startup-pack.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "oci/digest.h"

namespace pagein::startup {

inline constexpr size_t kMaxTraceReads = 1 << 20;
inline constexpr size_t kMaxTraceBytes = 64 << 20;

// Bytes of a layer's uncompressed tar, so that a trace fits every mode,
// encoding and span length.
struct TraceRead {
  oci::Digest diff_id;
  uint64_t offset = 0;
  uint64_t length = 0;  // offset + length does not overflow
  uint64_t ms = 0;      // since the start
  bool operator==(const TraceRead&) const = default;
};

struct Trace {
  std::string image;      // the reference that was started
  oci::Digest manifest;   // of its platform's image; empty if not known
  std::string platform;   // "linux/amd64"
  uint64_t ready_ms = 0;  // when the start was over
  std::string until;      // how that was seen: "http:..."
  std::vector<TraceRead> reads;
  bool operator==(const Trace&) const = default;
};

// Unknown members are passed over. corrupt_input: no trace; unsupported: a
// newer version; exhausted: beyond the limits. Pure; thread-safe.
Result<Trace> parse_trace(ByteView json);
// One line of JSON; reads beyond kMaxTraceReads are left out.
std::string write_trace(const Trace& trace);

}  // namespace pagein::startup
