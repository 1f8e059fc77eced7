// containerd's API objects that the client uses, as plain values (containerd
// api/types and api/services, 1.6 to 2.x). Thread-compatible.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "oci/descriptor.h"

namespace pagein::containerd {

using Labels = std::map<std::string, std::string>;

struct Mount {
  std::string type;
  std::string source;
  std::string target;
  std::vector<std::string> options;
};

struct ContentInfo {
  oci::Digest digest;
  uint64_t size = 0;
  Labels labels;
};

struct SnapshotInfo {
  std::string name;
  std::string parent;
  bool committed = false;
  Labels labels;
};

struct Image {
  std::string name;
  Labels labels;
  oci::Descriptor target;
};

}  // namespace pagein::containerd
