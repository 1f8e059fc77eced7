// Credentials that somebody hands over and takes back: Kubernetes Secrets
// through the control socket. In memory only.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "registry/credentials.h"
#include "registry/docker_config.h"

namespace pagein::registry {

inline constexpr size_t kMaxHandedOver = 10'000;

// Thread-safe; does not block.
class MemoryCredentials : public CredentialProvider {
 public:
  // A Docker config.json (a Secret of the type kubernetes.io/dockerconfigjson)
  // under a name; replaces what had that name. Helpers it names are not run.
  // corrupt_input: not such a file; exhausted: there are kMaxHandedOver names.
  Status put(const std::string& name, std::string_view docker_config);
  bool remove(const std::string& name);
  std::vector<std::string> names() const;

  // All that match, the longest first; among equals by name.
  Result<std::vector<Credentials>> get(std::string_view name) override;

 private:
  mutable Mutex mutex_;
  std::map<std::string, DockerConfig> configs_ GUARDED_BY(mutex_);
};

}  // namespace pagein::registry
