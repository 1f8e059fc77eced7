// Durations as Go programs write them: "1h30m", "300ms", "0".
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace pagein::registry {

// Go's time.ParseDuration without signs; nullopt: not one. Pure. At most ten
// years, longer ones are cut.
std::optional<std::chrono::milliseconds> parse_go_duration(std::string_view text);

}  // namespace pagein::registry
