// WWW-Authenticate, as registries send it (RFC 9110 11.6.1; distribution's
// token specification).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pagein::registry {

inline constexpr size_t kMaxChallengeSize = 16 << 10;  // of one header field, bytes
inline constexpr size_t kMaxChallenges = 16;

struct Challenge {
  std::string scheme;                         // lower case: "bearer", "basic"
  std::map<std::string, std::string> params;  // names in lower case; a name's first value

  std::string param(const std::string& name) const;
};

// All challenges of one field's value. Pure. corrupt_input where it breaks the
// grammar; a token68 after the scheme is skipped.
Result<std::vector<Challenge>> parse_challenges(std::string_view field);

}  // namespace pagein::registry
