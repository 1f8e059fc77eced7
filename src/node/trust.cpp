#include "node/trust.h"

namespace pagein::node {

TrustPolicy::TrustPolicy(std::vector<std::string> repositories)
    : repositories_(std::move(repositories)) {}

bool TrustPolicy::trusts(const oci::Reference& image) const {
  const std::string name = image.name();
  for (const std::string& pattern : repositories_) {
    if (pattern.ends_with("/*")) {
      if (name.starts_with(std::string_view(pattern).substr(0, pattern.size() - 1))) return true;
    } else if (name == pattern) {
      return true;
    }
  }
  return false;
}

}  // namespace pagein::node
