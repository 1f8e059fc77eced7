// The parts of URLs that decisions hang on. Pure; thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pagein::net {

// An absolute http or https URL in parts, as libcurl's own parser reads it (so
// that what is checked is what is fetched). Without fragment.
struct Url {
  std::string scheme;  // "http" or "https"
  std::string host;    // lower case; IPv6 in brackets
  uint16_t port = 0;   // the scheme's default filled in
  std::string path;    // starts with '/'
  std::string query;   // without '?'

  // "https://host:port", the port only where it is not the default.
  std::string origin() const;
  std::string str() const;       // with the query: never for a log or a message
  std::string loggable() const;  // without the query
  bool is_https() const { return scheme == "https"; }
  // localhost, 127/8 or ::1.
  bool is_loopback() const;
};

// invalid_argument: not absolute http(s), user:password@ inside, longer than
// 16 KiB, control characters.
Result<Url> parse_url(std::string_view text);
// RFC 3986 5.2: `location` (absolute or relative) seen from `base`.
Result<Url> resolve_url(const Url& base, std::string_view location);

bool is_loopback_host(std::string_view host);       // with or without port
std::string percent_encode(std::string_view text);  // all but unreserved characters

}  // namespace pagein::net
