// Makes the startup pack of an image whose layers and indexes are published.
#pragma once

#include <atomic>
#include <vector>

#include "convert/layer_reader.h"
#include "convert/startup_options.h"
#include "startup/piece_planner.h"

namespace pagein::convert {

// As published: head and frames.
struct MadePack {
  Bytes head;
  Bytes frames;
  // What determined it besides the layers: for layers with the same spans in
  // another encoding it is the same pack.
  StartupReport report;
};

// zstd's level for frames, chosen by measurement (docs/formats/startup-pack.md).
inline constexpr int kPackLevel = 3;

struct PackLimits {
  uint64_t stored_bytes = kDefaultPackLimit;
  const std::atomic<bool>* stop = nullptr;  // set: `cancelled`
};

// Reads the scattered pieces (some side by side), verifies and compresses them,
// one after the other while they are within the limit; those beyond it, long runs
// and spans that cannot be read by range or are longer than a piece are named alone.
// Deterministic. Blocks. Memory: the pack and some 16 MiB. `pieces` not empty.
Result<MadePack> make_pack(const std::vector<LayerAccess>& layers,
                           const std::vector<startup::PlannedPiece>& pieces,
                           const PackLimits& limits);

// The layers' spans begin at the same places of the same tars: one pack serves both.
bool have_same_spans(const std::vector<LayerAccess>& a, const std::vector<LayerAccess>& b);

}  // namespace pagein::convert
