// Content-Range of a 206 answer (RFC 9110 14.4), and the Range that registries
// report of an upload.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace pagein::registry {

struct ContentRange {
  uint64_t first = 0;
  uint64_t last = 0;              // inclusive
  std::optional<uint64_t> total;  // nullopt: "*"
};

// "bytes 0-99/1000". Pure. nullopt for anything else, an unsatisfied range
// ("bytes */1000") and ranges that contradict themselves included.
std::optional<ContentRange> parse_content_range(std::string_view value);

// "0-99" (or "bytes=0-99") -> 100, how many bytes of an upload are there.
// Docker's registry says "0-0" for none as well as for one: see the caller.
std::optional<uint64_t> parse_upload_range(std::string_view value);

}  // namespace pagein::registry
