#include <array>

#include "registry/image_store.h"

namespace pagein::registry {

namespace {

struct Prefix {
  std::string_view text;
  Location::Kind kind;
};
constexpr std::array kPrefixes = {
    Prefix{"oci:", Location::Kind::oci_layout},
    Prefix{"oci-archive:", Location::Kind::oci_archive},
    Prefix{"docker-archive:", Location::Kind::docker_archive},
};

Error bad(std::string_view text, std::string_view why) {
  return Error(Code::invalid_argument,
               "\"" + std::string(text.substr(0, 300)) + "\": " + std::string(why));
}

}  // namespace

Result<Location> parse_location(std::string_view text) {
  Location out;
  for (const Prefix& prefix : kPrefixes) {
    if (!text.starts_with(prefix.text)) continue;
    out.kind = prefix.kind;
    const std::string_view rest = text.substr(prefix.text.size());
    // A path may not hold a colon: what follows the first one is the name, and a
    // docker-archive's may itself have colons.
    const size_t colon = rest.find(':');
    out.path = std::string(rest.substr(0, colon));
    if (out.path.empty()) return bad(text, "names no path");
    if (colon == std::string_view::npos) return out;
    out.name = std::string(rest.substr(colon + 1));
    if (out.name.empty()) return bad(text, "has nothing after the colon");
    return out;
  }
  for (const std::string_view scheme : {"docker://", "http://", "https://"}) {
    if (!text.starts_with(scheme)) continue;
    if (scheme != "docker://") return bad(text, "name the image without " + std::string(scheme));
    text.remove_prefix(scheme.size());
  }
  ASSIGN_OR_RETURN(out.reference, oci::Reference::parse(text));
  return out;
}

std::string Location::str() const {
  if (kind == Kind::registry) return reference.str();
  for (const Prefix& prefix : kPrefixes) {
    if (prefix.kind != kind) continue;
    return std::string(prefix.text) + path.string() + (name.empty() ? "" : ":" + name);
  }
  return {};
}

}  // namespace pagein::registry
