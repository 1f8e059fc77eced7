// containerd's API objects that the client uses, as plain values (containerd
// api/types and api/services, 1.6 to 2.x). Thread-compatible.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace pagein::containerd {

using Labels = std::map<std::string, std::string>;

struct Descriptor {
  std::string media_type;
  std::string digest;  // "sha256:<hex>"
  uint64_t size = 0;   // bytes
  Labels annotations;
};

struct Mount {
  std::string type;
  std::string source;
  std::string target;
  std::vector<std::string> options;
};

struct ContentInfo {
  std::string digest;
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
  Descriptor target;
};

}  // namespace pagein::containerd
