// Header fields that servers send: WWW-Authenticate, Content-Range, Range,
// Retry-After, Link.
#include <cstdlib>

#include "base/file.h"
#include "registry/call.h"
#include "registry/challenge.h"
#include "registry/content_range.h"
#include "registry/retry.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  using namespace pagein::registry;
  const std::string_view text = as_text({data, size});
  if (const auto challenges = parse_challenges(text); challenges.ok()) {
    if (challenges->size() > kMaxChallenges) std::abort();
    for (const Challenge& challenge : *challenges) {
      if (challenge.scheme.empty()) std::abort();
      static_cast<void>(realm_allowed("https://registry.example", challenge.param("realm")));
    }
  }
  if (const auto range = parse_content_range(text)) {
    if (range->last < range->first || (range->total && *range->total <= range->last)) std::abort();
  }
  static_cast<void>(parse_upload_range(text));
  if (const auto wait = parse_retry_after(text, 1'700'000'000)) {
    if (wait->count() < 0) std::abort();
  }
  net::Headers headers;
  headers.add("Link", std::string(text));
  if (const std::string next = next_link(headers); !next.empty()) {
    const Endpoint endpoint{.host = "r", .origin = "https://r.example", .tls = {}, .headers = {}};
    if (const auto url = follow_location(endpoint, "https://r.example/v2/x", next); url.ok()) {
      if (!url->starts_with("http")) std::abort();
    }
  }
  return 0;
}
