// Paths as a layer means them: relative to the image's root, lexical.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace pagein::index {

// "./usr//bin/../lib/" -> "usr/lib": no empty, "." or ".." components, and
// ".." never leaves the root. "" is the root. `out` is overwritten (pass the
// same string again and again to save allocations). corrupt_input if a
// component or the whole is longer than Linux takes, or holds a NUL.
Status normalise_path(std::string_view path, std::string& out);

// Whether normalise_path() would leave it as it is, and it is not the root.
bool is_normal_path(std::string_view path);

// 1..255 bytes, without '/' and NUL, not "." or "..".
bool is_valid_name(std::string_view name);

}  // namespace pagein::index
