// Calls to a daemon's control socket.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"

namespace pagein::control {

// One call; blocks until the answer. Returns the body (JSON, or text for
// /metrics). unavailable: no daemon listens at `socket`; else what the daemon
// said.
Result<std::string> call_get(const std::filesystem::path& socket, const std::string& path);
Result<std::string> call_post(const std::filesystem::path& socket, const std::string& path,
                              const std::string& json);

}  // namespace pagein::control
