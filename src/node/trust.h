// Which indexes this node believes (DESIGN "Trust"; THREATS.md). An index is
// somebody's claim about a layer, and containerd shares snapshots by chain ID
// between all images: whoever is believed is believed for the whole node.
#pragma once

#include <string>
#include <vector>

#include "oci/reference.h"

namespace pagein::node {

// Immutable; thread-safe.
class TrustPolicy {
 public:
  // Patterns as in the configuration: host/repository, or host/prefix/*.
  explicit TrustPolicy(std::vector<std::string> repositories);
  bool trusts(const oci::Reference& image) const;

 private:
  std::vector<std::string> repositories_;
};

}  // namespace pagein::node
