// Names and small formats of a layer's folder (docs/formats/store.md). Internal
// to this folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"
#include "store/layer.h"

namespace pagein::store {

inline constexpr const char* kHeadFile = "head";
inline constexpr const char* kDataFile = "data";
inline constexpr const char* kRestFile = "rest";
inline constexpr const char* kSumsFile = "sums";
inline constexpr const char* kPresentFile = "present";
inline constexpr const char* kStateFile = "state.json";

// The whole file. corrupt_input where it is longer than any that we write: it
// is damaged then, and `exhausted` would mean that the layer may be kept.
Result<std::string> read_small_file(const std::filesystem::path& path, uint64_t longest);

// A layer was used just now: the time of its head file says so, for eviction.
// Best effort.
void note_use(const std::filesystem::path& dir);
// Nanoseconds since 1970, 0 where it is not known.
int64_t last_use(const std::filesystem::path& dir);

std::string format_state(const LayerState& state);
// corrupt_input if it is not what format_state() writes.
Result<LayerState> parse_state(std::string_view text);

}  // namespace pagein::store
