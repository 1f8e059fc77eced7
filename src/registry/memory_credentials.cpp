#include "registry/memory_credentials.h"

#include <algorithm>

namespace pagein::registry {

Status MemoryCredentials::put(const std::string& name, std::string_view docker_config) {
  ASSIGN_OR_RETURN(DockerConfig config, DockerConfig::parse(as_bytes(docker_config)));
  MutexLock lock(mutex_);
  if (configs_.size() >= kMaxHandedOver && !configs_.contains(name)) {
    return Error(Code::exhausted, "too many credentials have been handed over; remove some");
  }
  configs_[name] = std::move(config);
  return {};
}

bool MemoryCredentials::remove(const std::string& name) {
  MutexLock lock(mutex_);
  return configs_.erase(name) != 0;
}

std::vector<std::string> MemoryCredentials::names() const {
  std::vector<std::string> out;
  MutexLock lock(mutex_);
  for (const auto& [name, unused] : configs_) out.push_back(name);
  return out;
}

Result<std::vector<Credentials>> MemoryCredentials::get(std::string_view name) {
  struct Found {
    size_t key_length;
    Credentials credentials;
  };
  std::vector<Found> found;
  {
    MutexLock lock(mutex_);
    for (const auto& [secret, config] : configs_) {
      for (Credentials& each : config.find(name)) {
        const size_t length = each.source.size();
        each.source = "the login for " + each.source + " in the secret " + secret;
        found.push_back({length, std::move(each)});
      }
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const Found& a, const Found& b) { return a.key_length > b.key_length; });
  std::vector<Credentials> out;
  for (Found& each : found) {
    if (out.size() == kMaxCandidates) break;
    out.push_back(std::move(each.credentials));
  }
  return out;
}

}  // namespace pagein::registry
