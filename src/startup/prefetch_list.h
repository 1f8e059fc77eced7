// The list of files that a start needs, as people write it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pagein::startup {

inline constexpr size_t kMaxListBytes = 64 << 20;

struct ListedPath {
  std::string path;        // absolute, without the trailing slash; "/" alone is "/"
  bool directory = false;  // it had one: all files below are meant
  bool operator==(const ListedPath&) const = default;
};

// One absolute path a line, a directory's with a slash at its end. Blank lines
// are passed over, and carriage returns at a line's end. invalid_argument names
// the line that is no absolute path, or the limit. Pure; thread-safe.
Result<std::vector<ListedPath>> parse_prefetch_list(std::string_view text);

}  // namespace pagein::startup
