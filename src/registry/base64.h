// Base64 (RFC 4648 section 4) for the few bytes of a login.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pagein::registry {

std::string base64_encode(std::string_view bytes);
// nullopt: not base64. Padding may be missing.
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace pagein::registry
