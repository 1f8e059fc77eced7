// What a conversion's startup pack is made of, and what became of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "startup/pack_location.h"
#include "startup/prefetch_list.h"
#include "startup/trace.h"

namespace pagein::convert {

inline constexpr uint64_t kDefaultPackLimit = 64 << 20;
// A pack is in memory as it is made.
inline constexpr uint64_t kMaxPackLimit = 256 << 20;

// Where there is neither list nor trace, and none is attached to the base image.
enum class AutoPrefetch {
  entry_point,  // what the image's entry point names (startup/entry_point.h)
  off,
};

struct StartupOptions {
  std::optional<std::vector<startup::ListedPath>> list;
  std::optional<startup::Trace> trace;  // where none is given, the base image's is looked for
  AutoPrefetch automatic = AutoPrefetch::entry_point;
  // Bytes of frames in a pack. It has never more than a tenth of the bytes of the
  // base image's layers.
  uint64_t pack_limit = kDefaultPackLimit;
};

// The startup pack of one platform's image.
struct StartupReport {
  std::optional<startup::PackLocation> pack;
  std::string settings;
  std::vector<std::string> origins;        // "trace", "attached trace", "list", "entry point"
  std::vector<std::string> unknown_paths;  // of the list: not in the image
  size_t unknown_reads = 0;                // of the trace: of other layers
  size_t pieces = 0;
  size_t stored_pieces = 0;
  uint64_t stored_bytes = 0;      // of frames
  uint64_t tar_bytes = 0;         // of all pieces
  uint64_t stored_tar_bytes = 0;  // of stored ones
  std::string note;               // why there is no pack; empty where none was wanted
};

}  // namespace pagein::convert
